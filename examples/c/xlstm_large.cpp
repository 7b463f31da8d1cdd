// xLSTM Large for inference, in one file: c++ -std=c++17 -O2 -o xlstm_large xlstm_large.cpp
//     ./xlstm_large FOLDER --generate 20 3 1 4 1 5   prints the 20 likeliest tokens after a prompt
//     ./xlstm_large FOLDER IN OUT                    answers a case of `numpy-xlstm trace`
// FOLDER has config.json and the .safetensors files of transformers, in F32, BF16 or F16. A prompt
// is computed at once, then one token after the other. Tags: docs/derivations and docs/blocks.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <valarray>
#include <vector>
using std::string, std::to_string;
using Rows = std::valarray<float>; // (T, width): the numbers of step t begin at t * width
[[noreturn]] void fail(const string &message) { fprintf(stderr, "%s\n", message.c_str()), exit(2); }
string read_file(const string &path) {
    std::ifstream stream(path, std::ios::binary);
    string bytes(std::filesystem::file_size(path), 0);
    stream.read(&bytes[0], bytes.size());
    return bytes;
}
// Returns the value of a name in JSON and all after it, or "". This needs no parser, as
// safetensors.c has, because no such name occurs twice in the files that are read here.
const char *field(const char *json, const string &name) {
    const char *at = strstr(json, ('"' + name + '"').c_str());
    return at ? at + name.size() + 2 + strspn(at + name.size() + 2, " \n:[\"") : "";
}
struct Tensor { string dtype; size_t rows, width; const char *data; }; // as in its file
struct File { string all, header; }; std::vector<File> files;
void read_tensors(const string &path) {
    size_t length = 0;
    File &file = files.emplace_back(File{read_file(path), ""});
    if (file.all.copy((char *)&length, 8) < 8 || length > file.all.size()) fail(path + ": cut off");
    file.header = file.all.substr(8, length);
}
Tensor find(const string &name, size_t zeros = 0) { // a vector of zeros if there is no tensor
    for (const File &file : files)
        if (const char *entry = field(file.header.c_str(), name); *entry) {
            size_t n[4] = {1, 1, 1, 1}, start = 0, end = 0, at = 8 + file.header.size();
            int axes = sscanf(field(entry, "shape"), "%zu , %zu , %zu", n + 1, n + 2, n + 3);
            sscanf(field(entry, "data_offsets"), "%zu , %zu", &start, &end);
            if (axes < 1 || at + end > file.all.size()) fail(name + ": expected more bytes");
            return {string(field(entry, "dtype"), 3), n[axes - 1], n[axes], &file.all[at + start]};
        }
    if (!zeros) fail("expected a tensor " + name);
    return {"F32", 1, zeros, nullptr};
}
Rows row_of(const Tensor &t, size_t row = 0) { // as float, which is exact
    bool brain = t.dtype == "BF1", half = t.dtype == "F16"; // the upper half of a float, or IEEE's
    if (!brain && !half && t.dtype != "F32") fail("expected F32, BF16 or F16; got " + t.dtype);
    if (row >= t.rows) fail("expected an id of the vocabulary; got another one");
    Rows wide(t.width);
    const char *at = t.data + row * t.width * (brain || half ? 2 : 4);
    for (size_t j = 0; j < t.width && t.data; j++) {
        unsigned bits = 0;
        brain || half ? memcpy(&bits, at + 2 * j, 2) : memcpy(&bits, at + 4 * j, 4);
        bits = brain ? bits << 16 : half ? (bits & 0x8000) << 16 | (bits & 0x7fff) << 13 : bits;
        memcpy(&wide[j], &bits, 4);
        if (half) wide[j] *= 0x1p112f; // from exponents that count from −15 to those from −127
    }
    return wide;
}
size_t D, NH, DK, DV; // of the stream, of heads, of a key and of a value
float norm_eps, eps, gate_cap, logit_cap;
struct State { Rows C, n; std::valarray<double> m; }; // of a block, head after head
std::vector<State> states;
double product(const float *a, const float *b, size_t count) { // a double, because float would
    return std::inner_product(a, a + count, b, 0.0); // lose digits in a sum of thousands of terms
}
Rows linear(const Rows &x, const string &name) {
    Tensor W = find(name + ".weight");
    Rows y(x.size() / W.width * W.rows), b = row_of(find(name + ".bias", W.rows));
    for (size_t o = 0; o < W.rows; o++) {
        Rows w = row_of(W, o); // read once for all steps
        for (size_t t = 0; t < x.size() / W.width; t++)
            y[t * W.rows + o] = product(&w[0], &x[t * W.width], W.width) + b[o]; // [linear.1]
    }
    return y;
}
Rows norm(Rows x, const string &name, size_t heads, bool centred) { // if not, an RMS norm
    Rows w = row_of(find(name + ".weight")), b = row_of(find(name + ".bias", w.size()));
    for (size_t at = 0, width = w.size() / heads; at < x.size(); at += width) {
        std::slice here(at, width, 1), own(at % w.size(), width, 1);
        Rows c = x[here];
        if (centred) c -= c.sum() / width; // [norm.1]
        float r = 1 / std::sqrt(product(&c[0], &c[0], width) / width + norm_eps); // [norm.2]
        x[here] = r * c * Rows(w[own]) + Rows(b[own]); // [norm.3, 4]
    }
    return x;
}
Rows sigmoid(const Rows &x) { return 1.0f / (1.0f + std::exp(-x)); }
Rows capped(const Rows &x, float cap) { return cap * std::tanh(x / cap); } // [cap.1]
// Takes one step of one head, with exponents in double: changes C, n and m, and writes h.
void memory(const float *q, const float *k, const float *v, double i_pre, double f_pre, float *C,
            float *n, double &m, float *h) {
    double A = std::min(f_pre, 0.0) - std::log1p(std::exp(-std::fabs(f_pre))) + m; // [stab.1, 3]
    m = std::max(A, i_pre); // [stab.5]
    float i = std::exp(i_pre - m), f = std::exp(A - m); // [stab.6, 7]
    for (size_t a = 0; a < DK; a++) {
        float w = i * k[a] / std::sqrt((float)DK); // [mlstm.3, 7]
        n[a] = f * n[a] + w; // [mlstm.9]
        for (size_t d = 0; d < DV; d++) {
            C[a * DV + d] = f * C[a * DV + d] + w * v[d]; // [mlstm.8]
            h[d] += C[a * DV + d] * q[a]; // [mlstm.10]
        }
    }
    double den = std::max(std::fabs(product(q, n, DK)), std::exp(-m)) + eps; // [mlstm.11, 12]
    for (size_t d = 0; d < DV; d++) h[d] /= den; // [mlstm.13]
}
Rows block(const Rows &x, size_t b) {
    string name = "backbone.blocks." + to_string(b) + ".";
    Rows u = norm(x, name + "norm_mlstm", 1, false);
    Rows q = linear(u, name + "mlstm_layer.q"), k = linear(u, name + "mlstm_layer.k");
    Rows v = linear(u, name + "mlstm_layer.v"), h(v.size());
    Rows i = capped(linear(u, name + "mlstm_layer.igate_preact"), gate_cap);
    Rows f = capped(linear(u, name + "mlstm_layer.fgate_preact"), gate_cap); // [large.1]
    for (size_t j = 0; j < i.size(); j++) // step after step, and head after head: [large.2]
        memory(&q[j * DK], &k[j * DK], &v[j * DV], i[j], f[j], &states[b].C[j % NH * DK * DV],
               &states[b].n[j % NH * DK], states[b].m[j % NH], &h[j * DV]);
    Rows normed = norm(h, name + "mlstm_layer.multihead_norm", NH, true); // [large.3]
    Rows o = sigmoid(linear(u, name + "mlstm_layer.ogate_preact"));
    Rows mid = x + linear(o * normed, name + "mlstm_layer.out_proj"); // [large.4, block.1]
    Rows z = norm(mid, name + "norm_ffn", 1, false), g = linear(z, name + "ffn.proj_up_gate");
    Rows p = g * sigmoid(g) * linear(z, name + "ffn.proj_up"); // [silu.1]
    return mid + linear(p, name + "ffn.proj_down"); // [ffn.1, block.2]
}
Rows part(const string &name, const Rows &x) { // the part that a case of a trace is called after
    if (name == "norm") return norm(x, "backbone.out_norm", 1, false);
    if (name == "head") return linear(x, "lm_head");
    if (name == "cap") return capped(x, logit_cap);
    if (name.find("block.") == 0) return block(x, stoul(name.substr(6)));
    Rows stream(x.size() * D); // x is ids
    for (size_t t = 0; t < x.size(); t++)
        stream[std::slice(t * D, D, 1)] = row_of(find("backbone.embeddings.weight"), x[t]);
    if (name == "embedding") return stream;
    for (size_t b = 0; b < states.size(); b++) stream = block(stream, b);
    return part("cap", part("head", part("norm", stream)));
}
void answer(const string &in, const string &out) {
    read_tensors(in);
    string known = files.back().header, name = field(known.c_str(), "case"), header, data;
    name = name.substr(0, name.find('"'));
    Tensor t = find("x");
    size_t count = t.rows * t.width, width = t.dtype == "I64" ? 1 : t.width;
    Rows x = width > 1 ? row_of({t.dtype, 1, count, t.data}) : Rows(count);
    for (size_t j = 0, id = 0; width == 1 && j < count; x[j++] = id) memcpy(&id, t.data + 8 * j, 8);
    auto add = [&](const string &name, const string &shape, const auto &numbers) {
        size_t start = data.size();
        for (float a : numbers) data.append((const char *)&a, 4);
        header += (start ? ",\"" : "{\"") + name + "\":{\"dtype\":\"F32\",\"shape\":[1," + shape +
                  "],\"data_offsets\":[" + to_string(start) + "," + to_string(data.size()) + "]}";
    };
    string nh = to_string(NH), dk = "," + to_string(DK), dv = "," + to_string(DV);
    auto empty = states;
    for (string way : {"", "steps."}) { // at once and, if asked for, one step after the other
        if (way != "" && !*field(known.c_str(), "steps")) break;
        std::vector<float> y;
        for (size_t at = 0, step = way == "" ? count : width; at < count; at += step)
            for (float a : part(name, x[std::slice(at, step, 1)])) y.push_back(a);
        add(way + "y", to_string(count / width) + "," + to_string(y.size() * width / count), y);
        for (size_t b = 0; b < states.size(); b++)
            if (string n = to_string(b); name == "model" || name == "block." + n) {
                string to = way + (name == "model" ? "final." + n + "." : "final.");
                add(to + "C", nh + dk + dv, states[b].C);
                add(to + "n", nh + dk, states[b].n), add(to + "m", nh, states[b].m);
            }
        states = empty;
    }
    size_t length = header.size() + 1;
    std::ofstream stream(out, std::ios::binary);
    stream.write((const char *)&length, 8) << header << '}' << data;
}
int main(int argc, char **argv) {
    if (argc < 4) fail("expected FOLDER --generate COUNT ID ..., or FOLDER IN OUT");
    string folder = argv[1], config = read_file(folder + "/config.json");
    for (auto &entry : std::filesystem::directory_iterator(folder))
        if (entry.path().extension() == ".safetensors") read_tensors(entry.path());
    auto number = [&config](const string &name, double otherwise) {
        return *field(config.c_str(), name) ? atof(field(config.c_str(), name)) : otherwise;
    };
    NH = number("num_heads", 8), norm_eps = number("norm_eps", 1e-6), eps = number("eps", 1e-6);
    gate_cap = number("gate_soft_cap", 15), logit_cap = number("output_logit_soft_cap", 30);
    D = find("lm_head.weight").width, DK = find("backbone.blocks.0.mlstm_layer.q.weight").rows / NH;
    DV = find("backbone.blocks.0.mlstm_layer.v.weight").rows / NH;
    while (find("backbone.blocks." + to_string(states.size()) + ".norm_ffn.weight", 1).data)
        states.push_back({Rows(NH * DK * DV), Rows(NH * DK), std::valarray<double>(-INFINITY, NH)});
    if (string(argv[2]) != "--generate") return answer(argv[2], argv[3]), 0;
    Rows ids(argc - 4);
    for (int n = 4; n < argc; n++) ids[n - 4] = atoi(argv[n]);
    for (int left = atoi(argv[3]); left > 0; left--) {
        Rows y = part("model", ids);
        float *last = end(y) - y.size() / ids.size();
        ids = Rows(std::max_element(last, end(y)) - last, 1);
        printf("%d%c", (int)ids[0], left > 1 ? ' ' : '\n'), fflush(stdout);
    }
}
