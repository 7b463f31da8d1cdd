#include "inputs.h"

#include <string.h>

const tensor *needed(const safetensors *file, const char *name, const char *dtype, size_t ndim)
{
    const tensor *t = safetensors_get(file, name);
    if (t == NULL || strcmp(t->dtype, dtype) != 0 || t->ndim != ndim)
        fail("%s: expected a tensor of %s with %zu axes", name, dtype, ndim);
    return t;
}

void *numbers(const safetensors *file, const char *name, const char *dtype, size_t ndim,
              const size_t *shape)
{
    const tensor *t = needed(file, name, dtype, ndim);
    for (size_t axis = 0; axis < ndim; axis++)
        if (t->shape[axis] != shape[axis])
            fail("%s: expected %zu numbers along axis %zu; got %zu", name, shape[axis], axis,
                 t->shape[axis]);
    return t->data;
}

const tensor *needed_x(const safetensors *in)
{
    const tensor *x = safetensors_get(in, "x");
    if (x == NULL || (x->ndim != 2 && x->ndim != 3))
        fail("x: expected a tensor of 2 or 3 axes: batch, time if it has steps, features");
    return x;
}

int64_t *checked_lengths(const safetensors *in, size_t B, size_t T)
{
    if (safetensors_get(in, "lengths") == NULL)
        return NULL;
    int64_t *lengths = numbers(in, "lengths", "I64", 1, &B);
    for (size_t b = 0; b < B; b++)
        if (lengths[b] < 0 || (uint64_t)lengths[b] > T)
            fail("lengths: expected 0 to %zu; got %lld", T, (long long)lengths[b]);
    return lengths;
}

int exp_forget_gate(const safetensors *in)
{
    const char *gate = safetensors_metadata(in, "forget_gate");
    if (gate == NULL || (strcmp(gate, "sigmoid") != 0 && strcmp(gate, "exp") != 0))
        fail("forget_gate: expected sigmoid or exp; got %s", gate == NULL ? "nothing" : gate);
    return strcmp(gate, "exp") == 0;
}
