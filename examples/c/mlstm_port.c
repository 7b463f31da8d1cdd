/* mlstm_port IN OUT: reads the inputs of a case of an mLSTM, and writes all results.
 *
 * numpy-xlstm verify --subject mlstm.sequence --run './mlstm_port {in} {out}' */
#include "port.h"

int main(int count, char **arguments)
{
    if (count != 3)
        fail("expected two files: mlstm_port IN OUT");
    safetensors in = safetensors_read(arguments[1]);
    safetensors out = mlstm_results(&in);
    safetensors_write(arguments[2], &out);
    safetensors_free(&in);
    safetensors_free(&out);
    return 0;
}
