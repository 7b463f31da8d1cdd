/* mLSTM, forward and backward, derived in docs/derivations/mlstm.md.
 *
 * REAL is float or double, as in slstm.h: mlstm_forward_float, mlstm_forward_double.
 *
 * Arrays are C-order. For B rows, T steps, inputs of width D, and NH heads with keys of width DK
 * and values of width DV: x is (B, T, D) and y is (B, T, NH, DV); in a state, C is
 * (B, NH, DK, DV), n is (B, NH, DK) and m is (B, NH). Each of the six maps has W (NH, width, D)
 * and b (NH, width), where width is DK for q and k, DV for v and o, and 1 for i and f. There is no
 * h in the state. */
#ifndef MLSTM_H
#define MLSTM_H

#include <stddef.h>
#include <stdint.h>

#ifndef REAL
#define REAL double
#endif
#define MLSTM_NAME_(name, real) name##_##real
#define MLSTM_NAME(name, real) MLSTM_NAME_(name, real)
#define mlstm_empty MLSTM_NAME(mlstm_empty, REAL)
#define mlstm_step MLSTM_NAME(mlstm_step, REAL)
#define mlstm_step_backward MLSTM_NAME(mlstm_step_backward, REAL)
#define mlstm_forward MLSTM_NAME(mlstm_forward, REAL)
#define mlstm_backward MLSTM_NAME(mlstm_backward, REAL)
#define mlstm_kept_size MLSTM_NAME(mlstm_kept_size, REAL)

enum { MAP_Q, MAP_K, MAP_V, MAP_I, MAP_F, MAP_O, MAPS };

typedef struct {
    size_t D, NH, DK, DV;
    int exp_forget; /* the forget gate: 0 for a sigmoid, 1 for exp */
    REAL eps;
    const REAL *W[MAPS], *b[MAPS];
} mlstm;

typedef struct { REAL *C, *n, *m; } mlstm_state; /* or the cotangent of one */

typedef struct { REAL *W[MAPS], *b[MAPS]; } mlstm_grads; /* of parameters; added to */

/* Size of the residuals of one row at one step. They include the memory before and after the step.
 * To keep less, keep every tenth memory and recompute the others. */
size_t mlstm_kept_size(const mlstm *p);

/* Writes the empty state of B rows. */
void mlstm_empty(const mlstm *p, size_t B, mlstm_state s);

/* Takes one step of one row with x (D). Updates the state s, and writes the output y (NH, DV) and
 * the residuals kept. */
void mlstm_step(const mlstm *p, const REAL *x, mlstm_state s, REAL *y, REAL *kept);

/* Backward of one step: dy (NH, DV) is the cotangent of the output, and ds that of the state after
 * the step. Replaces ds by the gradient of the state before the step, and writes dx (D). */
void mlstm_step_backward(const mlstm *p, const REAL *x, REAL *kept, const REAL *dy, mlstm_state ds,
                         REAL *dx, mlstm_grads grads);

/* Runs a sequence, and updates the state s to the final one. lengths (B) are the numbers of steps
 * of the rows, or NULL if all have T; outputs in padding are 0. kept is B·T times that size. */
void mlstm_forward(const mlstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                   mlstm_state s, REAL *y, REAL *kept);

/* Backward of a sequence. Replaces ds, the cotangent of the final state, by the gradient of the
 * first state. */
void mlstm_backward(const mlstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                    REAL *kept, const REAL *dy, mlstm_state ds, REAL *dx, mlstm_grads grads);

#endif
