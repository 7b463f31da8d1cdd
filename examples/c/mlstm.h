/* mLSTM, forward and backward, as docs/derivations/mlstm.md derives it.
 *
 * REAL is float or double, as in slstm.h: mlstm_forward_float, mlstm_forward_double.
 *
 * Arrays are row by row. Of B rows, T steps, inputs of width D, and NH heads with keys of width DK
 * and values of width DV: x is (B, T, D) and y (B, T, NH, DV); of a state, C is (B, NH, DK, DV),
 * n (B, NH, DK) and m (B, NH). Each of six maps has a W (NH, width, D) and a b (NH, width): q and k
 * of width DK, v and o of width DV, i and f of width 1. There is no h in the state. */
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

typedef struct { REAL *W[MAPS], *b[MAPS]; } mlstm_grads; /* of the parameters: added to */

/* How many numbers the backward needs of one row at one step. The memory before the step and that
 * after it are among them: to keep fewer, keep every tenth and compute the others again. */
size_t mlstm_kept_size(const mlstm *p);

/* The empty state of B rows. */
void mlstm_empty(const mlstm *p, size_t B, mlstm_state s);

/* One step of one row: x (D), and the state s, which is changed to that after it; y (NH, DV) is the
 * output. kept is for the backward. */
void mlstm_step(const mlstm *p, const REAL *x, mlstm_state s, REAL *y, REAL *kept);

/* Back through it: dy (NH, DV) is the cotangent of the output; ds that of the state after the step,
 * and on return the gradient of the state before it; dx (D) is the gradient of x. */
void mlstm_step_backward(const mlstm *p, const REAL *x, REAL *kept, const REAL *dy, mlstm_state ds,
                         REAL *dx, mlstm_grads grads);

/* A sequence: from the state s, which is changed to the last one. lengths (B) says how many steps
 * each row has, or is NULL if all have T; outputs behind them are 0. kept has its size B·T times. */
void mlstm_forward(const mlstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                   mlstm_state s, REAL *y, REAL *kept);

/* Back through it: ds is the cotangent of the last state, and on return the gradient of the first. */
void mlstm_backward(const mlstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                    REAL *kept, const REAL *dy, mlstm_state ds, REAL *dx, mlstm_grads grads);

#endif
