/* Names of the tensors of a case, and the inputs and results of an sLSTM. Compiled once for each
 * precision, like slstm.c. */
#include "port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inputs.h"
#include "slstm.h"

#define results_real SLSTM_NAME(results, REAL)

static const char *const REAL_DTYPE = sizeof(REAL) == sizeof(float) ? "F32" : "F64";

static slstm parameters(const safetensors *in)
{
    const tensor *W = needed(in, "params.W", REAL_DTYPE, 2);
    const tensor *R = needed(in, "params.R", REAL_DTYPE, 3);
    slstm p = {.D = W->shape[1], .H = W->shape[0] / 4, .NH = R->shape[0]};
    if (p.H == 0 || p.NH == 0 || p.H % p.NH != 0)
        fail("params.R: expected heads that divide %zu; got %zu", p.H, p.NH);
    size_t DH = p.H / p.NH;
    p.W = numbers(in, "params.W", REAL_DTYPE, 2, (size_t[]){4 * p.H, p.D});
    p.R = numbers(in, "params.R", REAL_DTYPE, 3, (size_t[]){p.NH, 4 * DH, DH});
    p.b = numbers(in, "params.b", REAL_DTYPE, 1, (size_t[]){4 * p.H});
    p.exp_forget = exp_forget_gate(in);
    return p;
}

enum { PART_NAME = 16 };

/* "state.h", "state.c", "state.n" or "state.m". */
static void part_name(char *full, const char *name, int n)
{
    snprintf(full, PART_NAME, "%s.%c", name, "hcnm"[n]);
}

/* Adds a state or the cotangent of one to the results: "final.h", "final.c", ... */
static slstm_state add_state(safetensors *out, const char *name, size_t B, size_t H)
{
    REAL *parts[4];
    for (int n = 0; n < 4; n++) {
        char full[PART_NAME];
        part_name(full, name, n);
        parts[n] = safetensors_add(out, full, REAL_DTYPE, 2, (size_t[]){B, H});
    }
    return (slstm_state){parts[0], parts[1], parts[2], parts[3]};
}

/* Copies "state.h", "state.c", ... from the inputs; returns 0 if there is none. */
static int copy_state(slstm_state to, const safetensors *in, const char *name, size_t B, size_t H)
{
    REAL *parts[4] = {to.h, to.c, to.n, to.m};
    for (int n = 0; n < 4; n++) {
        char full[PART_NAME];
        part_name(full, name, n);
        if (safetensors_get(in, full) == NULL)
            return 0;
        memcpy(parts[n], numbers(in, full, REAL_DTYPE, 2, (size_t[]){B, H}),
               B * H * sizeof(REAL));
    }
    return 1;
}

/* Runs the sequence, or the step as a sequence of one, forward and backward. */
safetensors results_real(const safetensors *in)
{
    const tensor *x = needed_x(in);
    int steps = x->ndim == 3;
    slstm p = parameters(in);
    size_t B = x->shape[0], T = steps ? x->shape[1] : 1, D = p.D, H = p.H, DH = H / p.NH;
    size_t x_shape[] = {B, steps ? T : D, D}, y_shape[] = {B, steps ? T : H, H};
    const REAL *xs = numbers(in, "x", REAL_DTYPE, x->ndim, x_shape);
    const REAL *dy = numbers(in, "dy", REAL_DTYPE, x->ndim, y_shape);
    const int64_t *lengths = checked_lengths(in, B, T);

    safetensors out = {NULL, NULL, 0};
    REAL *y = safetensors_add(&out, "y", REAL_DTYPE, x->ndim, y_shape);
    slstm_state s = add_state(&out, "final", B, H);
    if (!copy_state(s, in, "state", B, H))
        slstm_empty(&p, B, s);
    slstm_unit *kept = allocate(B * T * H, sizeof *kept);
    slstm_forward(&p, B, T, xs, lengths, s, y, kept);

    REAL *dx = safetensors_add(&out, "dx", REAL_DTYPE, x->ndim, x_shape);
    slstm_state ds = add_state(&out, "dstate0", B, H);
    copy_state(ds, in, "dstate", B, H);
    slstm_grads grads = {
        safetensors_add(&out, "grads.W", REAL_DTYPE, 2, (size_t[]){4 * H, D}),
        safetensors_add(&out, "grads.R", REAL_DTYPE, 3, (size_t[]){p.NH, 4 * DH, DH}),
        safetensors_add(&out, "grads.b", REAL_DTYPE, 1, (size_t[]){4 * H}),
    };
    slstm_backward(&p, B, T, xs, lengths, kept, dy, ds, dx, grads);
    free(kept);
    return out;
}
