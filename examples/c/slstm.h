/* sLSTM, forward and backward, as docs/derivations/slstm.md derives it.
 *
 * REAL is float or double; compiled once with each, both can be in one program, since every name
 * ends in it: slstm_forward_float, slstm_forward_double.
 *
 * Arrays are row by row. Of B rows, T steps, inputs of width D, and H units, which are NH heads of
 * DH: x is (B, T, D), y (B, T, H), each part of a state (B, H), W (4, H, D), R (NH, 4, DH, DH) and
 * b (4, H); the four gates are in the order i, f, z, o. */
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

typedef struct { REAL *W, *R, *b; } slstm_grads; /* of the parameters: added to */

/* What the backward needs of one unit at one step. */
typedef struct {
    REAL h_prev, c_prev, n_prev; /* the state before the step */
    REAL pre[4], dpre[4];        /* pre-activations, and room for their gradients */
    REAL A;                      /* log f + m before: the exponent of what is left of the past */
    REAL i, f, z, o, c, n;
} slstm_unit;

size_t slstm_kept_size(void); /* bytes of an slstm_unit, for callers in other languages */

/* The empty state of B rows. */
void slstm_empty(const slstm *p, size_t B, slstm_state s);

/* One step of one row: x (D) and the state s (H), which is changed, to the state after it, whose h
 * is the output. kept (H) is for the backward. */
void slstm_step(const slstm *p, const REAL *x, slstm_state s, slstm_unit *kept);

/* Back through it: dy (H) is the cotangent of the output; ds that of the state after the step, and
 * on return the gradient of the state before it; dx (D) is the gradient of x. */
void slstm_step_backward(const slstm *p, const REAL *x, slstm_unit *kept, const REAL *dy,
                         slstm_state ds, REAL *dx, slstm_grads grads);

/* A sequence: from the state s, which is changed to the last one. lengths (B) says how many steps
 * each row has, or is NULL if all have T; outputs behind them are 0. kept is (B, T, H). */
void slstm_forward(const slstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                   slstm_state s, REAL *y, slstm_unit *kept);

/* Back through it: ds is the cotangent of the last state, and on return the gradient of the first. */
void slstm_backward(const slstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                    slstm_unit *kept, const REAL *dy, slstm_state ds, REAL *dx, slstm_grads grads);

#endif
