/* Steps of the sLSTM and the mLSTM with one head, with the equations of docs/derivations/.
   Matrices are (inputs, outputs), so that the compiler can vectorise over the outputs. */
#include <math.h>

typedef const float *restrict input;
typedef float *restrict output;

static float log_sigmoid(float x) { return fminf(x, 0) - log1pf(expf(-fabsf(x))); }
static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static void add_product(int inputs, int outputs, input x, input W, output y) {
    for (int j = 0; j < inputs; j++)
        for (int k = 0; k < outputs; k++) y[k] += x[j] * W[j * outputs + k];
}

void slstm_steps(int steps, int H, input x, input W, input R, input b, output h, output c, output n,
                 output m, output pre) {
    for (int t = 0; t < steps; t++) {
        for (int k = 0; k < 4 * H; k++) pre[k] = b[k];
        add_product(H, 4 * H, x, W, pre);
        add_product(H, 4 * H, h, R, pre);
        for (int k = 0; k < H; k++) {
            float A = log_sigmoid(pre[H + k]) + m[k];
            m[k] = fmaxf(A, pre[k]);
            float i = expf(pre[k] - m[k]), f = expf(A - m[k]);
            c[k] = f * c[k] + i * tanhf(pre[2 * H + k]);
            n[k] = f * n[k] + i;
            h[k] = sigmoid(pre[3 * H + k]) * (c[k] / n[k]);
        }
    }
}

void mlstm_steps(int steps, int D, input q, input k, input v, input i_pre, input f_pre, output C,
                 output n, output m, output h) {
    for (int t = 0; t < steps; t++) {
        float A = log_sigmoid(*f_pre) + *m, qn = 0;
        *m = fmaxf(A, *i_pre);
        float i = expf(*i_pre - *m) / sqrtf(D), f = expf(A - *m);
        for (int e = 0; e < D; e++) h[e] = 0;
        for (int d = 0; d < D; d++) {
            n[d] = f * n[d] + i * k[d];
            qn += q[d] * n[d];
            for (int e = 0; e < D; e++) {
                C[d * D + e] = f * C[d * D + e] + i * k[d] * v[e];
                h[e] += q[d] * C[d * D + e];
            }
        }
        float denominator = fmaxf(fabsf(qn), expf(-*m)) + 1e-6f;
        for (int e = 0; e < D; e++) h[e] /= denominator;
    }
}
