/* slstm_port IN OUT: reads the inputs of a case of an sLSTM, and writes all results.
 *
 * numpy-xlstm verify --subject slstm.sequence --run './slstm_port {in} {out}' */
#include "port.h"

int main(int count, char **arguments)
{
    if (count != 3)
        fail("expected two files: slstm_port IN OUT");
    safetensors in = safetensors_read(arguments[1]);
    safetensors out = results(&in);
    safetensors_write(arguments[2], &out);
    safetensors_free(&in);
    safetensors_free(&out);
    return 0;
}
