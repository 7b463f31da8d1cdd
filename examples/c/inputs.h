/* Lookup of the parts of a case's file. If one is missing or wrong, the program prints an error and
 * ends. */
#ifndef INPUTS_H
#define INPUTS_H

#include <stddef.h>
#include <stdint.h>

#include "safetensors.h"

const tensor *needed(const safetensors *file, const char *name, const char *dtype, size_t ndim);

/* Returns the numbers of the tensor with this name and shape. */
void *numbers(const safetensors *file, const char *name, const char *dtype, size_t ndim,
              const size_t *shape);

/* Returns x, with 2 or 3 axes. */
const tensor *needed_x(const safetensors *in);

/* Returns "lengths", or NULL if there are none. */
int64_t *checked_lengths(const safetensors *in, size_t B, size_t T);

/* Returns 0 if the forget gate is a sigmoid, 1 if it is exp. */
int exp_forget_gate(const safetensors *in);

#endif
