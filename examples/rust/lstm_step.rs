//! One step of an LSTM, forward and backward, with nothing but Rust's standard library.
//!
//!     rustc --edition 2021 -O lstm_step.rs
//!     numpy-xlstm vectors cases --subject lstm.step
//!     numpy-xlstm verify --vectors cases --run './lstm_step {in} {out}'
//!
//! It computes in doubles, and rounds the results to the dtype of the case. The equations are those
//! of docs/derivations/lstm.md.

use std::collections::BTreeMap;
use std::{array, env, fs};

struct Tensor {
    double: bool,
    shape: Vec<usize>,
    data: Vec<f64>,
}

/// Splits a JSON text into brackets, numbers and strings. A string begins with its quotation mark.
fn tokens(text: &str) -> Vec<String> {
    let (mut all, mut rest) = (vec![], text.chars().peekable());
    while let Some(first) = rest.next() {
        let mut token = String::from(first);
        if first == '"' {
            while let Some(next) = rest.next().filter(|c| *c != '"') {
                token.push(if next == '\\' { rest.next().unwrap() } else { next });
            }
        } else if first.is_ascii_digit() {
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                token.push(digit);
            }
        }
        if !" \n\t,:[]".contains(&token) {
            all.push(token);
        }
    }
    all
}

/// Reads a file: the length of the header, the header, and the numbers of all tensors.
fn read(path: &str) -> BTreeMap<String, Tensor> {
    let file = fs::read(path).expect(path);
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (header, numbers) = file[8..].split_at(length);
    let header = tokens(str::from_utf8(header).expect("UTF-8"));
    // {"x {"dtype "F64 "shape 3 5 "data_offsets 0 120 } … }
    let mut tensors = BTreeMap::new();
    for entry in header[1..].split(|token| token == "}").filter(|entry| entry.len() > 2) {
        let after = |key: &str| &entry[1 + entry.iter().position(|token| token == key).unwrap()..];
        let sizes = |key: &str| after(key).iter().map_while(|n| n.parse().ok()).collect();
        let (name, dtype) = (&entry[0][1..], &after("\"dtype")[0][1..]);
        if name == "__metadata__" || dtype == "I64" {
            continue; // an LSTM has no options, and a step no lengths
        }
        let ends: Vec<usize> = sizes("\"data_offsets");
        let (bytes, double) = (&numbers[ends[0]..ends[1]], dtype == "F64");
        let number = |b: &[u8]| match double {
            true => f64::from_le_bytes(b.try_into().unwrap()),
            false => f32::from_le_bytes(b.try_into().unwrap()).into(),
        };
        let data = bytes.chunks_exact(if double { 8 } else { 4 }).map(number).collect();
        tensors.insert(name.into(), Tensor { double, shape: sizes("\"shape"), data });
    }
    tensors
}

/// Writes results, each with the shape and dtype of a tensor.
fn write(path: &str, results: &[(&str, &Tensor, Vec<f64>)]) {
    let (mut entries, mut bytes) = (vec![], vec![]);
    for (name, Tensor { double, shape, .. }, data) in results {
        let (start, dtype) = (bytes.len(), if *double { "F64" } else { "F32" });
        for number in data {
            match double {
                true => bytes.extend(number.to_le_bytes()),
                false => bytes.extend((*number as f32).to_le_bytes()),
            }
        }
        let ends = [start, bytes.len()];
        let tensor = format!(r#""dtype":"{dtype}","shape":{shape:?},"data_offsets":{ends:?}"#);
        entries.push(format!(r#""{name}":{{{tensor}}}"#));
    }
    let header = format!("{{{}}}", entries.join(","));
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes(), &bytes].concat()).expect(path);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Keeps all digits where the slope is small, as the next function does.
fn sigmoid_slope(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

fn tanh_slope(x: f64) -> f64 {
    let e = (-2.0 * x.abs()).exp();
    4.0 * e / ((1.0 + e) * (1.0 + e))
}

/// Returns each result: its name, a tensor of its shape, and its numbers.
fn step(given: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor, Vec<f64>)> {
    let of = |name: &str| &given[name].data;
    let (x, w, r, bias) = (of("x"), of("params.W"), of("params.R"), of("params.b"));
    let (rows, d, h) = (given["x"].shape[0], given["x"].shape[1], bias.len() / 4);
    let state = |name: &str| given.get(name).map_or(vec![0.0; rows * h], |t| t.data.clone());
    let (h_prev, c_prev) = (state("state.h"), state("state.c"));
    let [mut y, mut c, mut dh_prev, mut dc_prev] = array::from_fn(|_| vec![0.0; rows * h]);
    let [mut dx, mut dw, mut dr, mut db] = [x, w, r, bias].map(|given| vec![0.0; given.len()]);
    for row in 0..rows {
        let (x, h_prev) = (&x[row * d..][..d], &h_prev[row * h..][..h]);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let pre = |g: usize| dot(&w[g * d..][..d], x) + dot(&r[g * h..][..h], h_prev) + bias[g];
        for j in 0..h {
            let (n, units) = (row * h + j, [j, h + j, 2 * h + j, 3 * h + j]);
            let [i_pre, f_pre, z_pre, o_pre] = units.map(pre);
            let (i, f, z, o) = (sigmoid(i_pre), sigmoid(f_pre), z_pre.tanh(), sigmoid(o_pre));
            c[n] = f * c_prev[n] + i * z; // [lstm.3]
            y[n] = o * c[n].tanh(); // [lstm.4]
            let dh = of("dy")[n] + of("dstate.h")[n];
            let dc = of("dstate.c")[n] + dh * o * tanh_slope(c[n]); // [lstm.6]
            dc_prev[n] = dc * f; // [lstm.10]
            let dpre = [
                dc * z * sigmoid_slope(i_pre),           // [lstm.8]
                dc * c_prev[n] * sigmoid_slope(f_pre),   // [lstm.9]
                dc * i * tanh_slope(z_pre),              // [lstm.7]
                dh * c[n].tanh() * sigmoid_slope(o_pre), // [lstm.5]
            ];
            for (g, dpre) in units.into_iter().zip(dpre) {
                db[g] += dpre;
                (0..d).for_each(|k| dw[g * d + k] += dpre * x[k]);
                (0..d).for_each(|k| dx[row * d + k] += dpre * w[g * d + k]);
                (0..h).for_each(|k| dr[g * h + k] += dpre * h_prev[k]);
                (0..h).for_each(|k| dh_prev[row * h + k] += dpre * r[g * h + k]);
            }
        }
    }
    let result = |name, like: &str, data| (name, &given[like], data);
    let [h, c] = [result("final.h", "dy", y.clone()), result("final.c", "dy", c)];
    let [dh, dc] = [result("dstate0.h", "dy", dh_prev), result("dstate0.c", "dy", dc_prev)];
    let [dw, dr] = [result("grads.W", "params.W", dw), result("grads.R", "params.R", dr)];
    let [dx, db] = [result("dx", "x", dx), result("grads.b", "params.b", db)];
    vec![result("y", "dy", y), h, c, dx, dh, dc, dw, dr, db]
}

fn main() {
    let paths: Vec<String> = env::args().skip(1).collect();
    write(&paths[1], &step(&read(&paths[0])));
}
