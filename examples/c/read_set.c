/* read_set DIR: reads a set of vectors with only a JSON parser and safetensors.c, and checks this
 * sLSTM and this mLSTM with every case that slstm_port and mlstm_port support. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port.h"

/* Returns a member; fails if it is missing. */
static const json *member(const json *object, const char *name)
{
    const json *found = json_get(object, name);
    if (found == NULL)
        fail("manifest.json: expected a member %s", name);
    return found;
}

static json *read_manifest(const char *folder)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    size_t size;
    char *text = read_file(path, &size);
    json *manifest = json_parse(text);
    if (manifest == NULL)
        fail("%s: expected JSON", path);
    free(text);
    return manifest;
}

static safetensors read_part(const char *folder, const json *of_case, const char *part)
{
    char path[1024];
    const json *name = member(member(member(of_case, "files"), part), "path");
    snprintf(path, sizeof path, "%s/%s", folder, name->string);
    return safetensors_read(path);
}

/* Checks that every tensor in the manifest is in the file, with the same shape. */
static void check_shapes(const safetensors *file, const json *described)
{
    for (const json *each = described->first; each != NULL; each = each->next) {
        const tensor *t = safetensors_get(file, each->name);
        size_t axis = 0;
        if (t == NULL)
            fail("%s: expected a tensor of this name", each->name);
        for (const json *n = member(each, "shape")->first; n != NULL; n = n->next, axis++)
            if (axis == t->ndim || (size_t)n->number != t->shape[axis])
                fail("%s: expected the shape that the manifest says", each->name);
    }
}

static double number(const tensor *t, size_t n)
{
    return strcmp(t->dtype, "F32") == 0 ? ((const float *)t->data)[n] : ((const double *)t->data)[n];
}

/* Returns the largest error of a tensor, divided by its bound. */
static double ratio(const tensor *found, const tensor *expected, const tensor *bound)
{
    double largest = 0;
    for (size_t n = 0; n < tensor_size(expected); n++) {
        double a = number(found, n), b = number(expected, n);
        double error = a == b ? 0 : fabs(a - b) / number(bound, n); /* −inf equals −inf */
        if (isnan(error))
            return INFINITY;
        largest = fmax(largest, error);
    }
    return largest;
}

typedef safetensors port(const safetensors *inputs);

/* Returns the function that computes the results of a subject, or NULL. */
static port *port_of(const char *subject)
{
    if (strcmp(subject, "slstm.step") == 0 || strcmp(subject, "slstm.sequence") == 0)
        return results;
    if (strcmp(subject, "mlstm.step") == 0 || strcmp(subject, "mlstm.sequence") == 0)
        return mlstm_results;
    return NULL;
}

/* Returns whether all results of a port are correct. */
static int passes(port *computed, const safetensors *inputs, const safetensors *expected,
                  const safetensors *bounds)
{
    int passed = 1;
    safetensors found = computed(inputs);
    for (size_t n = 0; n < expected->count; n++) {
        const tensor *right = &expected->tensors[n];
        const char *name = right->name;
        double largest = ratio(safetensors_get(&found, name), right, safetensors_get(bounds, name));
        if (!(largest <= 1)) {
            printf("%s: %s is off by %g times its bound\n",
                   safetensors_metadata(inputs, "case"), name, largest);
            passed = 0;
        }
    }
    safetensors_free(&found);
    return passed;
}

int main(int count, char **arguments)
{
    if (count != 2)
        fail("expected a folder: read_set DIR");
    json *manifest = read_manifest(arguments[1]);
    int cases = 0, run = 0, passed = 0;
    for (const json *each = member(manifest, "cases")->first; each != NULL; each = each->next) {
        safetensors inputs = read_part(arguments[1], each, "inputs");
        safetensors expected = read_part(arguments[1], each, "results");
        safetensors bounds = read_part(arguments[1], each, "bounds");
        check_shapes(&inputs, member(each, "inputs"));
        check_shapes(&expected, member(each, "results"));
        check_shapes(&bounds, member(each, "results"));
        port *computed = port_of(member(each, "subject")->string);
        cases++;
        if (computed != NULL) {
            run++;
            passed += passes(computed, &inputs, &expected, &bounds);
        }
        safetensors_free(&inputs);
        safetensors_free(&expected);
        safetensors_free(&bounds);
    }
    printf("%d cases read, %d of %d of the sLSTM and the mLSTM passed\n", cases, passed, run);
    json_free(manifest);
    return passed == run ? 0 : 1;
}
