#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64 };

typedef struct { const char *at; int depth; } reader;

static json *parse_value(reader *r);

static void skip_space(reader *r)
{
    r->at += strspn(r->at, " \t\n\r");
}

static int take(reader *r, const char *token)
{
    skip_space(r);
    size_t length = strlen(token);
    if (strncmp(r->at, token, length) != 0)
        return 0;
    r->at += length;
    return 1;
}

static json *new_value(int kind, double number)
{
    json *value = calloc(1, sizeof *value);
    if (value == NULL)
        abort();
    value->kind = kind;
    value->number = number;
    return value;
}

/* Reads the four digits of \uXXXX; returns -1 if they are invalid. */
static long parse_hex(reader *r)
{
    long code = 0;
    for (int n = 0; n < 4; n++, r->at++) {
        const char *digits = "0123456789abcdefABCDEF";
        const char *found = *r->at ? strchr(digits, *r->at) : NULL;
        if (found == NULL)
            return -1;
        long digit = found - digits;
        code = 16 * code + (digit < 16 ? digit : digit - 6);
    }
    return code;
}

/* Reads a code point after \u, from one or two escapes. Returns -1 if it is invalid, or if it is 0,
 * which would end the string. */
static long parse_code_point(reader *r)
{
    long code = parse_hex(r);
    if (code >= 0xD800 && code < 0xDC00) {
        if (strncmp(r->at, "\\u", 2) != 0)
            return -1;
        r->at += 2;
        long low = parse_hex(r);
        if (low < 0xDC00 || low > 0xDFFF)
            return -1;
        return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    return code == 0 || (code >= 0xDC00 && code <= 0xDFFF) ? -1 : code;
}

static char *put_utf8(char *to, long code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *to++ = (char)(0xE0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    } else {
        *to++ = (char)(0xF0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    }
    return to;
}

/* Reads a string without its quotes, or returns NULL. The result is no longer than the source. */
static char *parse_string(reader *r)
{
    if (!take(r, "\""))
        return NULL;
    char *string = malloc(strlen(r->at) + 1), *to = string;
    if (string == NULL)
        abort();
    while (*r->at != '"') {
        unsigned char c = (unsigned char)*r->at++;
        if (c < 0x20)
            break;
        if (c != '\\') {
            *to++ = (char)c;
            continue;
        }
        const char *escapes = "\"\\/bfnrt", *meant = "\"\\/\b\f\n\r\t";
        const char *found = *r->at ? strchr(escapes, *r->at) : NULL;
        if (found != NULL) {
            *to++ = meant[found - escapes];
            r->at++;
        } else if (*r->at++ == 'u') {
            long code = parse_code_point(r);
            if (code < 0)
                break;
            to = put_utf8(to, code);
        } else {
            break;
        }
    }
    if (*r->at != '"') {
        free(string);
        return NULL;
    }
    r->at++;
    *to = '\0';
    return string;
}

static json *parse_number(reader *r)
{
    char *end;
    int sign = *r->at == '-';
    if (strspn(r->at + sign, "0123456789") == 0 || strncmp(r->at + sign, "0x", 2) == 0)
        return NULL;
    json *value = new_value(JSON_NUMBER, strtod(r->at, &end));
    r->at = end;
    return value;
}

/* Reads the values between brackets, separated by commas. If one is damaged, frees all and returns
 * NULL. */
static json *parse_members(reader *r, int kind, const char *closing)
{
    json *value = new_value(kind, 0), **last = &value->first;
    if (++r->depth > DEEPEST) {
        json_free(value);
        return NULL;
    }
    int ended = take(r, closing);
    while (!ended) {
        char *name = kind == JSON_OBJECT ? parse_string(r) : NULL;
        int named = kind == JSON_ARRAY || (name != NULL && take(r, ":"));
        json *member = named ? parse_value(r) : NULL;
        if (member == NULL) {
            free(name);
            json_free(value);
            return NULL;
        }
        member->name = name;
        *last = member;
        last = &member->next;
        ended = take(r, closing);
        if (!ended && !take(r, ",")) {
            json_free(value);
            return NULL;
        }
    }
    r->depth--;
    return value;
}

static json *parse_value(reader *r)
{
    skip_space(r);
    if (*r->at == '"') {
        char *string = parse_string(r);
        if (string == NULL)
            return NULL;
        json *value = new_value(JSON_STRING, 0);
        value->string = string;
        return value;
    }
    if (take(r, "{"))
        return parse_members(r, JSON_OBJECT, "}");
    if (take(r, "["))
        return parse_members(r, JSON_ARRAY, "]");
    if (take(r, "true"))
        return new_value(JSON_BOOL, 1);
    if (take(r, "false"))
        return new_value(JSON_BOOL, 0);
    if (take(r, "null"))
        return new_value(JSON_NULL, 0);
    return parse_number(r);
}

json *json_parse(const char *text)
{
    reader r = {text, 0};
    json *value = parse_value(&r);
    skip_space(&r);
    if (value != NULL && *r.at != '\0') {
        json_free(value);
        return NULL;
    }
    return value;
}

const json *json_get(const json *object, const char *name)
{
    if (object == NULL || object->kind != JSON_OBJECT)
        return NULL;
    for (const json *member = object->first; member != NULL; member = member->next)
        if (strcmp(member->name, name) == 0)
            return member;
    return NULL;
}

const char *json_text(const json *object, const char *name)
{
    const json *member = json_get(object, name);
    return member == NULL ? NULL : member->string;
}

void json_free(json *value)
{
    while (value != NULL) {
        json *next = value->next;
        json_free(value->first);
        free(value->string);
        free(value->name);
        free(value);
        value = next;
    }
}
