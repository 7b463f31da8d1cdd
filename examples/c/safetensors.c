#include "safetensors.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

void *allocate(size_t count, size_t size)
{
    void *found = count > SIZE_MAX / size ? NULL : calloc(count ? count : 1, size);
    if (found == NULL)
        fail("expected memory for %zu numbers; got none", count);
    return found;
}

size_t item_size(const char *dtype)
{
    if (strcmp(dtype, "BF16") == 0 || strcmp(dtype, "F16") == 0)
        return 2;
    if (strcmp(dtype, "F32") == 0)
        return 4;
    if (strcmp(dtype, "F64") == 0 || strcmp(dtype, "I64") == 0)
        return 8;
    fail("expected a dtype of BF16, F16, F32, F64, I64; got %s", dtype);
    return 0;
}

size_t tensor_size(const tensor *t)
{
    size_t size = 1;
    for (size_t axis = 0; axis < t->ndim; axis++)
        size *= t->shape[axis];
    return size;
}

/* Reads a number that is a valid size. */
static size_t whole(const json *value, const char *name)
{
    if (value == NULL || value->kind != JSON_NUMBER || value->number < 0 || value->number > 1e12 ||
        value->number != (double)(size_t)value->number)
        fail("%s: expected whole numbers in its shape and data_offsets", name);
    return (size_t)value->number;
}

/* Converts numbers in 16 bits to float, which is exact. */
static void widen(tensor *t)
{
    int half = strcmp(t->dtype, "F16") == 0; /* or else the upper half of a float */
    size_t count = tensor_size(t);
    float *wide = allocate(count, sizeof *wide);
    for (size_t j = 0; j < count; j++) {
        uint32_t h = ((uint16_t *)t->data)[j];
        uint32_t bits = half ? (h & 0x8000) << 16 | (h & 0x7fff) << 13 : h << 16;
        memcpy(wide + j, &bits, sizeof bits);
        if (half)
            wide[j] *= 0x1p112f; /* from exponents that count from -15 to those from -127 */
    }
    free(t->data);
    t->data = wide;
    strcpy(t->dtype, "F32");
}

/* Reads the entry of a tensor in the header, and its numbers. */
static void read_tensor(tensor *t, const json *entry, const char *bytes, size_t size)
{
    const json *shape = json_get(entry, "shape"), *offsets = json_get(entry, "data_offsets");
    const char *dtype = json_text(entry, "dtype");
    if (dtype == NULL || shape == NULL || offsets == NULL || strlen(entry->name) >= sizeof t->name)
        fail("%s: expected a dtype, a shape and data_offsets", entry->name);
    strcpy(t->name, entry->name);
    size_t item = item_size(dtype), nbytes = item;
    strcpy(t->dtype, dtype);
    for (const json *axis = shape->first; axis != NULL; axis = axis->next) {
        if (t->ndim == MAX_DIMS)
            fail("%s: expected at most %d axes", t->name, MAX_DIMS);
        size_t width = t->shape[t->ndim++] = whole(axis, t->name);
        if (width > 0 && nbytes > SIZE_MAX / width)
            fail("%s: expected a shape that fits into memory", t->name);
        nbytes *= width;
    }
    size_t start = whole(offsets->first, t->name);
    size_t end = whole(offsets->first->next, t->name);
    if (start > end || end > size || end - start != nbytes)
        fail("%s: expected %zu bytes; got those from %zu to %zu of %zu", t->name, nbytes, start,
             end, size);
    t->data = allocate(nbytes / item, item);
    memcpy(t->data, bytes + start, nbytes);
    if (item == 2)
        widen(t);
}

char *read_file(const char *path, size_t *size)
{
    FILE *stream = fopen(path, "rb");
    if (stream == NULL || fseek(stream, 0, SEEK_END) != 0)
        fail("%s: expected a file that can be read", path);
    long length = ftell(stream);
    rewind(stream);
    char *bytes = allocate((size_t)length + 1, 1);
    if (fread(bytes, 1, (size_t)length, stream) != (size_t)length)
        fail("%s: expected %ld bytes; got fewer", path, length);
    fclose(stream);
    *size = (size_t)length;
    return bytes;
}

safetensors safetensors_read(const char *path)
{
    size_t size;
    char *bytes = read_file(path, &size);
    uint64_t length = 0;
    if (size >= 8)
        memcpy(&length, bytes, 8);
    if (size < 8 || length > size - 8)
        fail("%s: expected a safetensors file", path);
    char *text = allocate(length + 1, 1);
    memcpy(text, bytes + 8, length);
    safetensors file = {json_parse(text), NULL, 0};
    if (file.header == NULL || file.header->kind != JSON_OBJECT)
        fail("%s: expected a header in JSON", path);
    size_t entries = 0;
    for (const json *entry = file.header->first; entry != NULL; entry = entry->next)
        entries++;
    file.tensors = allocate(entries, sizeof *file.tensors);
    for (const json *entry = file.header->first; entry != NULL; entry = entry->next)
        if (strcmp(entry->name, "__metadata__") != 0)
            read_tensor(&file.tensors[file.count++], entry, bytes + 8 + length, size - 8 - length);
    free(text);
    free(bytes);
    return file;
}

const tensor *safetensors_get(const safetensors *file, const char *name)
{
    for (size_t n = 0; n < file->count; n++)
        if (strcmp(file->tensors[n].name, name) == 0)
            return &file->tensors[n];
    return NULL;
}

const char *safetensors_metadata(const safetensors *file, const char *name)
{
    return json_text(json_get(file->header, "__metadata__"), name);
}

void *safetensors_add(safetensors *file, const char *name, const char *dtype, size_t ndim,
                      const size_t *shape)
{
    if (strlen(name) >= sizeof file->tensors->name || ndim > MAX_DIMS)
        fail("%s: expected a shorter name, and at most %d axes", name, MAX_DIMS);
    file->tensors = realloc(file->tensors, (file->count + 1) * sizeof *file->tensors);
    if (file->tensors == NULL)
        fail("%s: expected memory; got none", name);
    tensor *t = &file->tensors[file->count++];
    memset(t, 0, sizeof *t);
    strcpy(t->name, name);
    strcpy(t->dtype, dtype);
    t->ndim = ndim;
    memcpy(t->shape, shape, ndim * sizeof *shape);
    return t->data = allocate(tensor_size(t), item_size(dtype));
}

static void write_header(FILE *stream, const safetensors *file)
{
    size_t start = 0;
    fputc('{', stream);
    for (size_t n = 0; n < file->count; n++) {
        const tensor *t = &file->tensors[n];
        size_t end = start + tensor_size(t) * item_size(t->dtype);
        fprintf(stream, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", n ? "," : "", t->name, t->dtype);
        for (size_t axis = 0; axis < t->ndim; axis++)
            fprintf(stream, "%s%zu", axis ? "," : "", t->shape[axis]);
        fprintf(stream, "],\"data_offsets\":[%zu,%zu]}", start, end);
        start = end;
    }
    fputc('}', stream);
}

/* The length of the header is written last; until then, the file is invalid. */
void safetensors_write(const char *path, const safetensors *file)
{
    uint64_t length = 0;
    FILE *stream = fopen(path, "wb");
    if (stream == NULL)
        fail("%s: expected a place to write to", path);
    fwrite(&length, 1, 8, stream);
    write_header(stream, file);
    while (ftell(stream) % 8)
        fputc(' ', stream);
    length = (uint64_t)ftell(stream) - 8;
    for (size_t n = 0; n < file->count; n++) {
        const tensor *t = &file->tensors[n];
        fwrite(t->data, item_size(t->dtype), tensor_size(t), stream);
    }
    rewind(stream);
    fwrite(&length, 1, 8, stream);
    if (ferror(stream) | fclose(stream))
        fail("%s: expected room for all numbers", path);
}

void safetensors_free(safetensors *file)
{
    for (size_t n = 0; n < file->count; n++)
        free(file->tensors[n].data);
    free(file->tensors);
    json_free(file->header);
}
