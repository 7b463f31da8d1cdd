/* JSON (RFC 8259) as a tree, for manifests and the headers of safetensors files. */
#ifndef JSON_H
#define JSON_H

typedef struct json {
    enum { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } kind;
    double number;      /* of a number; 0 or 1 of a bool */
    char *string;       /* of a string, in UTF-8 */
    char *name;         /* of a member of an object */
    struct json *first; /* element or member of an array or object, */
    struct json *next;  /* and the one after this */
} json;

json *json_parse(const char *text);                         /* NULL if the text is not JSON */
const json *json_get(const json *object, const char *name); /* NULL if there is no such member */
const char *json_text(const json *object, const char *name); /* the same, of a string */
void json_free(json *value);

#endif
