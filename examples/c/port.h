/* From the inputs of a case to its results, in each precision. */
#ifndef PORT_H
#define PORT_H

#include "safetensors.h"

safetensors results_float(const safetensors *inputs);
safetensors results_double(const safetensors *inputs);
safetensors results(const safetensors *inputs); /* of an sLSTM, in the precision of the inputs */

safetensors mlstm_results_float(const safetensors *inputs);
safetensors mlstm_results_double(const safetensors *inputs);
safetensors mlstm_results(const safetensors *inputs); /* of an mLSTM */

#endif
