#include <float.h>
#include <math.h>
#include <string.h>
#include <tgmath.h> /* exp is expf of a float */

#include "mlstm.h"

/* Residuals of one head of one row at one step. */
typedef struct {
    REAL *pre[MAPS], *dpre[MAPS]; /* outputs of the six maps, and their gradients */
    REAL *C_prev, *n_prev, *C, *n; /* the memory before the step, and after it */
    REAL *h_tilde, *dh_tilde;      /* the output before the output gate */
    REAL *A, *m, *i, *f, *qn;      /* one number each */
} mlstm_head;

static size_t width_of(const mlstm *p, size_t map)
{
    return map == MAP_I || map == MAP_F ? 1 : map == MAP_Q || map == MAP_K ? p->DK : p->DV;
}

static size_t head_size(const mlstm *p)
{
    return 4 * (p->DK + p->DV + 1) + 2 * p->DK * (p->DV + 1) + 2 * p->DV + 5;
}

size_t mlstm_kept_size(const mlstm *p)
{
    return p->NH * head_size(p);
}

static REAL *take(REAL **room, size_t count)
{
    return *room += count, *room - count;
}

/* Returns the parts of a head in the residuals of a row and step. */
static mlstm_head head_at(const mlstm *p, REAL *kept, size_t nu)
{
    mlstm_head u;
    REAL *room = kept + nu * head_size(p);
    for (size_t map = 0; map < MAPS; map++) {
        u.pre[map] = take(&room, width_of(p, map));
        u.dpre[map] = take(&room, width_of(p, map));
    }
    u.C_prev = take(&room, p->DK * p->DV), u.n_prev = take(&room, p->DK);
    u.C = take(&room, p->DK * p->DV), u.n = take(&room, p->DK);
    u.h_tilde = take(&room, p->DV), u.dh_tilde = take(&room, p->DV);
    u.A = take(&room, 1), u.m = take(&room, 1), u.i = take(&room, 1), u.f = take(&room, 1);
    u.qn = take(&room, 1);
    return u;
}

static REAL sigmoid(REAL x)
{
    return 1 / (1 + exp(-x));
}

static REAL sigmoid_slope(REAL x)
{
    return sigmoid(x) * sigmoid(-x);
}

static REAL log_forget(const mlstm *p, REAL x)
{
    return p->exp_forget ? x : fmin(x, (REAL)0) - log1p(exp(-fabs(x))); /* [stab.1] */
}

static REAL log_forget_slope(const mlstm *p, REAL x)
{
    return p->exp_forget ? 1 : sigmoid(-x); /* [stab.2] */
}

/* Clips m so that e^m and e^−m are normal numbers. */
static REAL clip(REAL m)
{
    REAL most = -log(sizeof(REAL) == sizeof(float) ? (REAL)FLT_MIN : (REAL)DBL_MIN);
    return fmin(fmax(m, -most), most);
}

/* Computes the output of one map for one head. */
static void map_forward(const mlstm *p, const REAL *x, size_t map, size_t nu, REAL *made)
{
    size_t D = p->D, width = width_of(p, map);
    for (size_t a = 0; a < width; a++) {
        const REAL *W = p->W[map] + (nu * width + a) * D;
        REAL sum = 0;
        for (size_t j = 0; j < D; j++)
            sum += W[j] * x[j];
        if (map == MAP_K)
            sum /= sqrt((REAL)p->DK);
        made[a] = sum + p->b[map][nu * width + a]; /* [mlstm.1] to [mlstm.4] */
    }
}

/* Adds the gradients of one map to dx and grads. */
static void map_backward(const mlstm *p, const REAL *x, size_t map, size_t nu, const REAL *dmade,
                         REAL *dx, mlstm_grads grads)
{
    size_t D = p->D, width = width_of(p, map);
    for (size_t a = 0; a < width; a++) {
        size_t row = nu * width + a;
        grads.b[map][row] += dmade[a]; /* [mlstm.32] */
        REAL g = map == MAP_K ? dmade[a] / sqrt((REAL)p->DK) : dmade[a];
        for (size_t j = 0; j < D; j++)
            grads.W[map][row * D + j] += g * x[j]; /* [mlstm.33] */
        for (size_t j = 0; j < D; j++)
            dx[j] += p->W[map][row * D + j] * g; /* [mlstm.34] */
    }
}

void mlstm_empty(const mlstm *p, size_t B, mlstm_state s)
{
    memset(s.C, 0, B * p->NH * p->DK * p->DV * sizeof(REAL));
    memset(s.n, 0, B * p->NH * p->DK * sizeof(REAL));
    for (size_t j = 0; j < B * p->NH; j++)
        s.m[j] = -INFINITY;
}

/* Returns the state of one of all heads; a row of the batch is NH heads. */
static mlstm_state state_at(const mlstm *p, mlstm_state s, size_t head)
{
    return (mlstm_state){s.C + head * p->DK * p->DV, s.n + head * p->DK, s.m + head};
}

static REAL denominator(const mlstm *p, REAL qn, REAL floor_)
{
    return fmax(fabs(qn), floor_) + p->eps; /* [mlstm.12] */
}

/* Takes one step of one head: updates the state s, and writes the output y (DV). */
static void head_forward(const mlstm *p, mlstm_head u, mlstm_state s, REAL *y)
{
    size_t DK = p->DK, DV = p->DV;
    const REAL *q = u.pre[MAP_Q], *k = u.pre[MAP_K], *v = u.pre[MAP_V], *o_pre = u.pre[MAP_O];
    REAL log_i = *u.pre[MAP_I]; /* [mlstm.6] */
    REAL A = *u.A = log_forget(p, *u.pre[MAP_F]) + *s.m; /* [stab.3] */
    REAL m = *u.m = fmax(A, log_i); /* [stab.5] */
    REAL i = *u.i = exp(log_i - m); /* [stab.6] */
    REAL f = *u.f = exp(A - m); /* [stab.7] */
    memcpy(u.C_prev, s.C, DK * DV * sizeof(REAL));
    memcpy(u.n_prev, s.n, DK * sizeof(REAL));
    REAL qn = 0;
    for (size_t a = 0; a < DK; a++) {
        REAL w = i * k[a]; /* [mlstm.7] */
        for (size_t d = 0; d < DV; d++)
            u.C[a * DV + d] = f * u.C_prev[a * DV + d] + w * v[d]; /* [mlstm.8] */
        u.n[a] = f * u.n_prev[a] + w; /* [mlstm.9] */
        qn += q[a] * u.n[a]; /* [mlstm.11] */
    }
    *u.qn = qn;
    REAL den = denominator(p, qn, exp(-clip(m)));
    for (size_t d = 0; d < DV; d++) {
        REAL sum = 0;
        for (size_t a = 0; a < DK; a++)
            sum += u.C[a * DV + d] * q[a]; /* [mlstm.10] */
        u.h_tilde[d] = sum / den; /* [mlstm.13] */
        y[d] = sigmoid(o_pre[d]) * u.h_tilde[d]; /* [mlstm.5, mlstm.14] */
    }
    memcpy(s.C, u.C, DK * DV * sizeof(REAL));
    memcpy(s.n, u.n, DK * sizeof(REAL));
    *s.m = m;
}

/* Backward of one step of one head. From dy (DV) and the cotangent ds of the state after the step,
 * computes the gradients of the outputs of the maps, and replaces ds by the gradient of the state
 * before the step. */
static void head_backward(const mlstm *p, mlstm_head u, const REAL *dy, mlstm_state ds)
{
    size_t DK = p->DK, DV = p->DV;
    const REAL *q = u.pre[MAP_Q], *k = u.pre[MAP_K], *v = u.pre[MAP_V], *o_pre = u.pre[MAP_O];
    REAL log_i = *u.pre[MAP_I], A = *u.A, m = *u.m, i = *u.i, f = *u.f, qn = *u.qn;
    REAL S = 0;
    for (size_t d = 0; d < DV; d++) {
        u.dpre[MAP_O][d] = dy[d] * u.h_tilde[d] * sigmoid_slope(o_pre[d]); /* [mlstm.15] */
        u.dh_tilde[d] = dy[d] * sigmoid(o_pre[d]); /* [mlstm.16] */
        S += u.dh_tilde[d] * u.h_tilde[d]; /* [mlstm.18] */
    }
    REAL floor_ = exp(-clip(m)), den = denominator(p, qn, floor_);
    int read = fabs(qn) >= floor_; /* whether |q·n| is the larger, or a tie */
    REAL dqn = read ? -(REAL)((qn > 0) - (qn < 0)) * (S / den) : 0; /* [mlstm.19] */
    if (!read && m == clip(m))
        *ds.m += S * (floor_ / den); /* [mlstm.20] */
    REAL di = 0, df = 0;
    memset(u.dpre[MAP_V], 0, DV * sizeof(REAL));
    for (size_t a = 0; a < DK; a++) {
        REAL *dC = ds.C + a * DV, *dn = ds.n + a, q_den = q[a] / den; /* [mlstm.17] */
        REAL dq = 0, dw = 0;
        *dn += dqn * q[a]; /* [mlstm.22] */
        for (size_t d = 0; d < DV; d++) {
            dC[d] += q_den * u.dh_tilde[d]; /* [mlstm.21] */
            dq += u.C[a * DV + d] * u.dh_tilde[d];
            dw += dC[d] * v[d];
            u.dpre[MAP_V][d] += dC[d] * i * k[a]; /* [mlstm.26] */
            df += u.C_prev[a * DV + d] * dC[d];
        }
        dw += *dn; /* [mlstm.24] */
        u.dpre[MAP_Q][a] = dq / den + dqn * u.n[a]; /* [mlstm.23] */
        u.dpre[MAP_K][a] = i * dw; /* [mlstm.25] */
        di += k[a] * dw; /* [mlstm.27] */
        df += u.n_prev[a] * *dn; /* [mlstm.28] */
    }
    int past = A >= log_i;
    *u.dpre[MAP_I] = past ? i * di : *ds.m - f * df; /* [stab.8, mlstm.29] */
    REAL dA = past ? *ds.m - i * di : f * df; /* [stab.9] */
    *u.dpre[MAP_F] = log_forget_slope(p, *u.pre[MAP_F]) * dA; /* [mlstm.30] */
    for (size_t j = 0; j < DK * DV; j++)
        ds.C[j] *= f; /* [mlstm.31] */
    for (size_t a = 0; a < DK; a++)
        ds.n[a] *= f;
    *ds.m = dA; /* [stab.10] */
}

void mlstm_step(const mlstm *p, const REAL *x, mlstm_state s, REAL *y, REAL *kept)
{
    for (size_t nu = 0; nu < p->NH; nu++) {
        mlstm_head u = head_at(p, kept, nu);
        for (size_t map = 0; map < MAPS; map++)
            map_forward(p, x, map, nu, u.pre[map]);
        head_forward(p, u, state_at(p, s, nu), y + nu * p->DV);
    }
}

void mlstm_step_backward(const mlstm *p, const REAL *x, REAL *kept, const REAL *dy, mlstm_state ds,
                         REAL *dx, mlstm_grads grads)
{
    memset(dx, 0, p->D * sizeof(REAL));
    for (size_t nu = 0; nu < p->NH; nu++) {
        mlstm_head u = head_at(p, kept, nu);
        head_backward(p, u, dy + nu * p->DV, state_at(p, ds, nu));
        for (size_t map = 0; map < MAPS; map++)
            map_backward(p, x, map, nu, u.dpre[map], dx, grads);
    }
}

void mlstm_forward(const mlstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                   mlstm_state s, REAL *y, REAL *kept)
{
    size_t D = p->D, H = p->NH * p->DV, size = mlstm_kept_size(p);
    memset(y, 0, B * T * H * sizeof(REAL));
    for (size_t b = 0; b < B; b++) {
        mlstm_state row = state_at(p, s, b * p->NH);
        size_t length = lengths ? (size_t)lengths[b] : T;
        for (size_t t = 0, at = b * T; t < length; t++, at++)
            mlstm_step(p, x + at * D, row, y + at * H, kept + at * size);
    }
}

void mlstm_backward(const mlstm *p, size_t B, size_t T, const REAL *x, const int64_t *lengths,
                    REAL *kept, const REAL *dy, mlstm_state ds, REAL *dx, mlstm_grads grads)
{
    size_t D = p->D, H = p->NH * p->DV, size = mlstm_kept_size(p);
    memset(dx, 0, B * T * D * sizeof(REAL));
    for (size_t b = 0; b < B; b++) {
        mlstm_state row = state_at(p, ds, b * p->NH);
        size_t length = lengths ? (size_t)lengths[b] : T;
        for (size_t t = length; t-- > 0;) {
            size_t at = b * T + t;
            mlstm_step_backward(p, x + at * D, kept + at * size, dy + at * H, row, dx + at * D,
                                grads);
        }
    }
}
