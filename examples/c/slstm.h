/* sLSTM, forward and backward, derived in docs/derivations/slstm.md.
 *
 * REAL is float or double. Every name ends in it, as in slstm_forward_float and
 * slstm_forward_double, so that one program can contain both.
 *
 * Arrays are C-order. For B rows, T steps, inputs of width D, and H units, which are NH heads of
 * DH: x is (B, T, D), y is (B, T, H), each part of a state is (B, H), W is (4, H, D), R is
 * (NH, 4, DH, DH) and b is (4, H). The gates are in the order i, f, z, o. */
#ifndef SLSTM_H
#define SLSTM_H

#include <stddef.h>
#include <stdint.h>

#ifndef REAL
#define REAL double
#endif
#define SLSTM_NAME_(name, real) name##_##real
#define SLSTM_NAME(name, real) SLSTM_NAME_(name, real)
#define slstm_empty SLSTM_NAME(slstm_empty, REAL)
#define slstm_step SLSTM_NAME(slstm_step, REAL)
#define slstm_step_backward SLSTM_NAME(slstm_step_backward, REAL)
#define slstm_forward SLSTM_NAME(slstm_forward, REAL)
#define slstm_backward SLSTM_NAME(slstm_backward, REAL)
#define slstm_kept_size SLSTM_NAME(slstm_kept_size, REAL)

enum { GATE_I, GATE_F, GATE_Z, GATE_O };

typedef struct {
    size_t D, H, NH;
    int exp_forget; /* the forget gate: 0 for a sigmoid, 1 for exp */
    const REAL *W, *R, *b;
} slstm;

typedef struct { REAL *h, *c, *n, *m; } slstm_state; /* or the cotangent of one */

typedef struct { REAL *W, *R, *b; } slstm_grads; /* of parameters; added to */

/* Residuals of one unit at one step. */
typedef struct {
    REAL h_prev, c_prev, n_prev; /* the state before the step */
    REAL pre[4], dpre[4];        /* pre-activations and their gradients */
    REAL A;                      /* log f + m₋: log of the weight of the past */
    REAL i, f, z, o, c, n;
} slstm_unit;

size_t slstm_kept_size(void); /* bytes of an slstm_unit, for callers in other languages */

/* Writes the empty state of B rows. */
void slstm_empty(const slstm *p, size_t B, slstm_state s);

/* Takes one step of one row with x (D). Updates the state s (H), whose h is the output, and writes
 * the residuals kept (H). */
void slstm_step(const slstm *p, const REAL *x, slstm_state s, slstm_unit *kept);

/* Backward of one step: dy (H) is the cotangent of the output, and ds that of the state after the
 * step. Replaces ds by the gradient of the state before the step, and writes dx (D). */
void slstm_step_backward(const slstm *p, const REAL *x, slstm_unit *kept, const REAL *dy,
                         slstm_state ds, REAL *dx, slstm_grads grads);

/* Runs a sequence, and updates the state s to the final one. lengths (B) are the numbers of steps
 * of the rows, or NULL if all have T; outputs in padding are 0. kept is (B, T, H). */
void slstm_forward(const slstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                   slstm_state s, REAL *y, slstm_unit *kept);

/* Backward of a sequence. Replaces ds, the cotangent of the final state, by the gradient of the
 * first state. */
void slstm_backward(const slstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                    slstm_unit *kept, const REAL *dy, slstm_state ds, REAL *dx, slstm_grads grads);

#endif
