/* What a case's file must have, looked up and checked: a program ends with a message if not. */
#ifndef INPUTS_H
#define INPUTS_H

#include <stddef.h>
#include <stdint.h>

#include "safetensors.h"

const tensor *needed(const safetensors *file, const char *name, const char *dtype, size_t ndim);

/* The numbers of a tensor of this shape. */
void *numbers(const safetensors *file, const char *name, const char *dtype, size_t ndim,
              const size_t *shape);

/* x, of 2 or 3 axes. */
const tensor *needed_x(const safetensors *in);

/* "lengths", or NULL if there are none. */
int64_t *checked_lengths(const safetensors *in, size_t B, size_t T);

/* 0 if the forget gate is a sigmoid, 1 if it is exp. */
int exp_forget_gate(const safetensors *in);

#endif
