#include "slstm.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <tgmath.h> /* exp is expf of a float */

static REAL sigmoid(REAL x)
{
    return 1 / (1 + exp(-x));
}

static REAL sigmoid_slope(REAL x)
{
    return sigmoid(x) * sigmoid(-x);
}

static REAL tanh_slope(REAL x)
{
    REAL e = exp(-2 * fabs(x));
    return 4 * e / ((1 + e) * (1 + e));
}

static REAL log_forget(const slstm *p, REAL x)
{
    return p->exp_forget ? x : fmin(x, (REAL)0) - log1p(exp(-fabs(x))); /* [stab.1] */
}

static REAL log_forget_slope(const slstm *p, REAL x)
{
    return p->exp_forget ? 1 : sigmoid(-x); /* [stab.2] */
}

/* Returns whether e^x is so small that it, or a quotient by it, loses digits. */
static int underflows(REAL x)
{
    return x < (sizeof(REAL) == sizeof(float) ? log(FLT_MIN / FLT_EPSILON)
                                              : log(DBL_MIN / DBL_EPSILON));
}

/* Returns the pre-activation of one gate of one unit, a row of W x + R h + b. */
static REAL pre_activation(const slstm *p, const REAL *x, const REAL *h, size_t gate, size_t unit)
{
    size_t D = p->D, DH = p->H / p->NH, head = unit / DH, d = unit % DH;
    const REAL *W = p->W + (gate * p->H + unit) * D;
    const REAL *R = p->R + ((head * 4 + gate) * DH + d) * DH;
    REAL sum = 0;
    for (size_t j = 0; j < D; j++)
        sum += W[j] * x[j];
    for (size_t j = 0; j < DH; j++)
        sum += R[j] * h[head * DH + j];
    return sum + p->b[gate * p->H + unit]; /* [rec.1]; b last: a large b would cost digits */
}

/* Adds the gradients of one pre-activation to dx, dh_prev and grads. */
static void pre_activation_backward(const slstm *p, const REAL *x, const slstm_unit *kept,
                                    size_t gate, size_t unit, REAL *dh_prev, REAL *dx,
                                    slstm_grads grads)
{
    REAL g = kept[unit].dpre[gate];
    size_t D = p->D, DH = p->H / p->NH, head = unit / DH, d = unit % DH;
    size_t row = gate * p->H + unit, block = (head * 4 + gate) * DH + d;
    for (size_t j = 0; j < DH; j++)
        dh_prev[head * DH + j] += p->R[block * DH + j] * g; /* [rec.3] */
    for (size_t j = 0; j < D; j++)
        dx[j] += p->W[row * D + j] * g; /* [rec.4] */
    for (size_t j = 0; j < D; j++)
        grads.W[row * D + j] += g * x[j]; /* [rec.5] */
    for (size_t j = 0; j < DH; j++)
        grads.R[block * DH + j] += g * kept[head * DH + j].h_prev; /* [rec.6] */
    grads.b[row] += g; /* [rec.7] */
}

size_t slstm_kept_size(void)
{
    return sizeof(slstm_unit);
}

void slstm_empty(const slstm *p, size_t B, slstm_state s)
{
    for (size_t j = 0; j < B * p->H; j++) {
        s.h[j] = s.c[j] = s.n[j] = 0;
        s.m[j] = -INFINITY;
    }
}

void slstm_step(const slstm *p, const REAL *x, slstm_state s, slstm_unit *kept)
{
    for (size_t j = 0; j < p->H; j++)
        for (size_t gate = 0; gate < 4; gate++)
            kept[j].pre[gate] = pre_activation(p, x, s.h, gate, j);
    for (size_t j = 0; j < p->H; j++) {
        slstm_unit *u = &kept[j];
        REAL i_pre = u->pre[GATE_I], f_pre = u->pre[GATE_F], z_pre = u->pre[GATE_Z], o_pre = u->pre[GATE_O];
        u->h_prev = s.h[j], u->c_prev = s.c[j], u->n_prev = s.n[j];
        u->A = log_forget(p, f_pre) + s.m[j]; /* [stab.3] */
        if (u->n_prev == 0 && underflows(i_pre - u->A))
            u->A = -INFINITY; /* [stab.4] */
        s.m[j] = fmax(u->A, i_pre); /* [stab.5] */
        u->i = exp(i_pre - s.m[j]); /* [stab.6] */
        u->f = exp(u->A - s.m[j]); /* [stab.7] */
        u->z = tanh(z_pre); /* [slstm.1] */
        u->o = sigmoid(o_pre); /* [slstm.2] */
        s.c[j] = u->c = u->f * u->c_prev + u->i * u->z; /* [slstm.3] */
        s.n[j] = u->n = u->f * u->n_prev + u->i; /* [slstm.4] */
        s.h[j] = u->o * (u->c / u->n); /* [slstm.5] */
    }
}

/* Backward within a unit. From dy and the cotangents of the state after the step, computes the
 * gradients of its pre-activations, and of its c, n and m before the step. */
static void unit_backward(const slstm *p, slstm_unit *u, REAL dy, REAL dh_next, REAL *ds_c,
                          REAL *ds_n, REAL *ds_m)
{
    REAL i_pre = u->pre[GATE_I], f_pre = u->pre[GATE_F];
    REAL z_pre = u->pre[GATE_Z], o_pre = u->pre[GATE_O];
    REAL dh = dy + dh_next; /* [rec.2] */
    u->dpre[GATE_O] = dh * (u->c / u->n) * sigmoid_slope(o_pre); /* [slstm.6] */
    REAL dc = *ds_c + dh * u->o / u->n; /* [slstm.7] */
    REAL dn = *ds_n - dh * u->o / u->n * (u->c / u->n); /* [slstm.8] */
    u->dpre[GATE_Z] = dc * u->i * tanh_slope(z_pre); /* [slstm.9] */
    REAL di = dc * u->z + dn; /* [slstm.10] */
    REAL df = dc * u->c_prev + dn * u->n_prev; /* [slstm.11] */
    int past = u->A >= i_pre;
    u->dpre[GATE_I] = past ? u->i * di : *ds_m - u->f * df; /* [stab.8] */
    REAL dA = past ? *ds_m - u->i * di : u->f * df; /* [stab.9] */
    u->dpre[GATE_F] = dA * log_forget_slope(p, f_pre); /* [slstm.12] */
    *ds_c = u->f * dc; /* [slstm.13] */
    *ds_n = u->f * dn; /* [slstm.14] */
    *ds_m = dA; /* [stab.10] */
}

void slstm_step_backward(const slstm *p, const REAL *x, slstm_unit *kept, const REAL *dy,
                         slstm_state ds, REAL *dx, slstm_grads grads)
{
    for (size_t j = 0; j < p->H; j++)
        unit_backward(p, &kept[j], dy[j], ds.h[j], &ds.c[j], &ds.n[j], &ds.m[j]);
    memset(ds.h, 0, p->H * sizeof(REAL));
    memset(dx, 0, p->D * sizeof(REAL));
    for (size_t j = 0; j < p->H; j++)
        for (size_t gate = 0; gate < 4; gate++)
            pre_activation_backward(p, x, kept, gate, j, ds.h, dx, grads);
}

/* Returns the state of one row of the batch. */
static slstm_state row_of(slstm_state s, size_t start)
{
    return (slstm_state){s.h + start, s.c + start, s.n + start, s.m + start};
}

void slstm_forward(const slstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                   slstm_state s, REAL *y, slstm_unit *kept)
{
    size_t D = p->D, H = p->H;
    memset(y, 0, B * T * H * sizeof(REAL));
    for (size_t b = 0; b < B; b++) {
        slstm_state row = row_of(s, b * H);
        size_t length = lengths ? (size_t)lengths[b] : T;
        for (size_t t = 0, at = b * T; t < length; t++, at++) {
            slstm_step(p, x + at * D, row, kept + at * H);
            memcpy(y + at * H, row.h, H * sizeof(REAL));
        }
    }
}

void slstm_backward(const slstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                    slstm_unit *kept, const REAL *dy, slstm_state ds, REAL *dx, slstm_grads grads)
{
    size_t D = p->D, H = p->H;
    memset(dx, 0, B * T * D * sizeof(REAL));
    for (size_t b = 0; b < B; b++) {
        slstm_state row = row_of(ds, b * H);
        size_t length = lengths ? (size_t)lengths[b] : T;
        for (size_t t = length; t-- > 0;) {
            size_t at = b * T + t;
            slstm_step_backward(p, x + at * D, kept + at * H, dy + at * H, row, dx + at * D, grads);
        }
    }
}
