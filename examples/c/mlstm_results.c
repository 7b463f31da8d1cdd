/* Tensors of the inputs and results of an mLSTM. Compiled once for each precision, like mlstm.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inputs.h"
#include "mlstm.h"
#include "port.h"

#define mlstm_results_real MLSTM_NAME(mlstm_results, REAL)

static const char *const REAL_DTYPE = sizeof(REAL) == sizeof(float) ? "F32" : "F64";

enum { LONGEST = 32 };

/* The name of a tensor: "params.W_q", "state.C", .... */
static const char *called(char *full, const char *group, const char *name, char which)
{
    snprintf(full, LONGEST, "%s.%s%c", group, name, which);
    return full;
}

/* Returns a number from the metadata. */
static double option(const safetensors *in, const char *name)
{
    const char *text = safetensors_metadata(in, name);
    char *end;
    double value = text == NULL ? -1 : strtod(text, &end);
    if (text == NULL || end == text || *end != '\0' || !(value >= 0) || value > 1e9)
        fail("%s: expected a number; got %s", name, text == NULL ? "nothing" : text);
    return value;
}

static size_t width_of(const mlstm *p, int map)
{
    return p->NH * (map == MAP_I || map == MAP_F ? 1 : map == MAP_Q || map == MAP_K ? p->DK : p->DV);
}

static mlstm parameters(const safetensors *in)
{
    const tensor *W_q = needed(in, "params.W_q", REAL_DTYPE, 2);
    const tensor *W_v = needed(in, "params.W_v", REAL_DTYPE, 2);
    mlstm p = {.D = W_q->shape[1], .NH = needed(in, "params.W_i", REAL_DTYPE, 2)->shape[0]};
    if (p.NH == 0 || W_q->shape[0] % p.NH != 0 || W_v->shape[0] % p.NH != 0)
        fail("params.W_i: expected heads that divide %zu and %zu; got %zu", W_q->shape[0],
             W_v->shape[0], p.NH);
    p.DK = W_q->shape[0] / p.NH, p.DV = W_v->shape[0] / p.NH;
    if (p.DK == 0 || p.DV == 0)
        fail("params.W_q, params.W_v: expected keys and values; got none");
    for (int map = 0; map < MAPS; map++) {
        char name[LONGEST];
        size_t shape[] = {width_of(&p, map), p.D};
        called(name, "params", "W_", "qkvifo"[map]);
        p.W[map] = numbers(in, name, REAL_DTYPE, 2, shape);
        called(name, "params", "b_", "qkvifo"[map]);
        p.b[map] = numbers(in, name, REAL_DTYPE, 1, shape);
    }
    p.exp_forget = exp_forget_gate(in);
    p.eps = (REAL)option(in, "eps");
    return p;
}

/* Numbers of axes of the parts of a state, C, n and m. */
static const size_t PART_AXES[] = {4, 3, 2};

/* Adds a state or the cotangent of one to the results: "final.C", "final.n", "final.m". */
static mlstm_state add_state(safetensors *out, const char *group, const size_t *shape)
{
    REAL *parts[3];
    for (int n = 0; n < 3; n++) {
        char name[LONGEST];
        called(name, group, "", "Cnm"[n]);
        parts[n] = safetensors_add(out, name, REAL_DTYPE, PART_AXES[n], shape);
    }
    return (mlstm_state){parts[0], parts[1], parts[2]};
}

/* Copies "state.C", ... from the inputs; returns 0 if there is none. */
static int copy_state(mlstm_state to, const safetensors *in, const char *group, const size_t *shape)
{
    REAL *parts[] = {to.C, to.n, to.m};
    for (int n = 0; n < 3; n++) {
        char name[LONGEST];
        const tensor *t = safetensors_get(in, called(name, group, "", "Cnm"[n]));
        if (t == NULL)
            return 0;
        const REAL *from = numbers(in, name, REAL_DTYPE, PART_AXES[n], shape);
        memcpy(parts[n], from, tensor_size(t) * sizeof(REAL));
    }
    return 1;
}

static mlstm_grads add_grads(safetensors *out, const mlstm *p)
{
    mlstm_grads grads;
    for (int map = 0; map < MAPS; map++) {
        char name[LONGEST];
        size_t shape[] = {width_of(p, map), p->D};
        called(name, "grads", "W_", "qkvifo"[map]);
        grads.W[map] = safetensors_add(out, name, REAL_DTYPE, 2, shape);
        called(name, "grads", "b_", "qkvifo"[map]);
        grads.b[map] = safetensors_add(out, name, REAL_DTYPE, 1, shape);
    }
    return grads;
}

/* Runs the sequence, or the step as a sequence of one, forward and backward. */
safetensors mlstm_results_real(const safetensors *in)
{
    const tensor *x = needed_x(in);
    int steps = x->ndim == 3;
    mlstm p = parameters(in);
    size_t B = x->shape[0], T = steps ? x->shape[1] : 1, D = p.D, H = p.NH * p.DV;
    size_t x_shape[] = {B, steps ? T : D, D}, y_shape[] = {B, steps ? T : H, H};
    size_t state_shape[] = {B, p.NH, p.DK, p.DV};
    const REAL *xs = numbers(in, "x", REAL_DTYPE, x->ndim, x_shape);
    const REAL *dy = numbers(in, "dy", REAL_DTYPE, x->ndim, y_shape);
    const int64_t *lengths = checked_lengths(in, B, T);

    safetensors out = {NULL, NULL, 0};
    REAL *y = safetensors_add(&out, "y", REAL_DTYPE, x->ndim, y_shape);
    mlstm_state s = add_state(&out, "final", state_shape);
    if (!copy_state(s, in, "state", state_shape))
        mlstm_empty(&p, B, s);
    REAL *kept = allocate(B * T * mlstm_kept_size(&p), sizeof *kept);
    mlstm_forward(&p, B, T, xs, lengths, s, y, kept);

    REAL *dx = safetensors_add(&out, "dx", REAL_DTYPE, x->ndim, x_shape);
    mlstm_state ds = add_state(&out, "dstate0", state_shape);
    copy_state(ds, in, "dstate", state_shape);
    mlstm_backward(&p, B, T, xs, lengths, kept, dy, ds, dx, add_grads(&out, &p));
    free(kept);
    return out;
}
