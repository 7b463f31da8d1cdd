#include <string.h>

#include "port.h"

safetensors results(const safetensors *inputs)
{
    const tensor *x = safetensors_get(inputs, "x");
    if (x == NULL || (strcmp(x->dtype, "F32") != 0 && strcmp(x->dtype, "F64") != 0))
        fail("x: expected a tensor of F32 or F64");
    return x->dtype[1] == '3' ? results_float(inputs) : results_double(inputs);
}
