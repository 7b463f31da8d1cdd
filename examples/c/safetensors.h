/* Reading and writing of the safetensors format: the length of the header in 8 bytes, the header in
 * JSON, {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, and then the
 * numbers, C-order and little-endian, as this machine must be. "__metadata__" has texts. Numbers in
 * 16 bits, BF16 and F16, are read as F32. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <stddef.h>

#include "json.h"

enum { MAX_DIMS = 8 };

typedef struct {
    char name[128];
    char dtype[8]; /* F32, F64 or I64 */
    size_t ndim, shape[MAX_DIMS];
    void *data;
} tensor;

typedef struct {
    json *header;
    tensor *tensors;
    size_t count;
} safetensors;

void fail(const char *format, ...); /* prints the error, and ends the program */
void *allocate(size_t count, size_t size); /* zeros, or fails */
char *read_file(const char *path, size_t *size); /* all bytes of a file, followed by a 0 */
size_t item_size(const char *dtype);
size_t tensor_size(const tensor *t); /* count of its numbers */

safetensors safetensors_read(const char *path);
void safetensors_write(const char *path, const safetensors *file); /* without metadata */
void safetensors_free(safetensors *file);

const tensor *safetensors_get(const safetensors *file, const char *name); /* NULL if none */
const char *safetensors_metadata(const safetensors *file, const char *name); /* NULL if none */

/* Adds a tensor of zeros, and returns its numbers. */
void *safetensors_add(safetensors *file, const char *name, const char *dtype, size_t ndim,
                      const size_t *shape);

#endif
