"""Known mistakes in the gated recurrent units and in the Elman network."""

from numpy_xlstm.cells.elman import ElmanCell
from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.conformance.bugs.bug import Bug

UNITS = {"gru": GRUCell, "original-gru": OriginalGRUCell}


def of_unit(subject: str) -> list[Bug]:
    """What both forms of the unit can have."""
    places = (UNITS[subject],)
    return [
        Bug(
            "update-gate-reversed",
            (f"{subject}.*",),
            places,
            """
            - h = u * n + z * h_prev
            + h = z * n + u * h_prev
            - dn_pre = dh * u * tanh_slope(n_pre)
            + dn_pre = dh * z * tanh_slope(n_pre)
            - dz_pre = dh * (h_prev - n) * sigmoid_slope(z_pre)
            + dz_pre = dh * (n - h_prev) * sigmoid_slope(z_pre)
            """
            + (
                """
            - dh_prev = z * dh + ds @ self.params["R"]
            + dh_prev = u * dh + ds @ self.params["R"]
            """
                if subject == "gru"
                else """
            - dh_prev = z * dh + r * ds + dr_pre @ R_r + dz_pre @ R_z
            + dh_prev = u * dh + r * ds + dr_pre @ R_r + dz_pre @ R_z
            """
            ),
            "a unit whose update gate lets the new in, not the old stay: (1 − z) ∘ h₋ + z ∘ n, as "
            "Chung et al. (2014) write it",
        ),
        Bug(
            "update-gradient-of-new-alone",
            (f"{subject}.*",),
            places,
            """
            - dz_pre = dh * (h_prev - n) * sigmoid_slope(z_pre)
            + dz_pre = dh * h_prev * sigmoid_slope(z_pre)
            """,
            "a backward that forgets that 1 − z depends on z",
        ),
        Bug(
            "gates-in-order-zrn",
            (f"{subject}.*",),
            places,
            """
            - a_r, a_z, a_n = np.split(x @ p["W"].T + p["b"], 3, axis=1)
            + a_z, a_r, a_n = np.split(x @ p["W"].T + p["b"], 3, axis=1)
            - da = np.hstack([dr_pre, dz_pre, dn_pre])
            + da = np.hstack([dz_pre, dr_pre, dn_pre])
            """
            + (
                """
            - s_r, s_z, s_n = np.split(h_prev @ p["R"].T + p["b_h"], 3, axis=1)
            + s_z, s_r, s_n = np.split(h_prev @ p["R"].T + p["b_h"], 3, axis=1)
            - ds = np.hstack([dr_pre, dz_pre, r * dn_pre])
            + ds = np.hstack([dz_pre, dr_pre, r * dn_pre])
            """
                if subject == "gru"
                else """
            - p, (R_r, R_z, R_n) = self.params, np.split(self.params["R"], 3)
            + p, (R_z, R_r, R_n) = self.params, np.split(self.params["R"], 3)
            - R_r, R_z, R_n = np.split(self.params["R"], 3)
            + R_z, R_r, R_n = np.split(self.params["R"], 3)
            - dR = np.vstack([dr_pre.T @ h_prev, dz_pre.T @ h_prev, dn_pre.T @ s])
            + dR = np.vstack([dz_pre.T @ h_prev, dr_pre.T @ h_prev, dn_pre.T @ s])
            """
            ),
            "a unit that reads the rows of W, R and b in the order z, r, n, which is that of ONNX "
            "and Keras",
        ),
        Bug(
            "direct-path-cut",
            (f"{subject}.*",),
            places,
            """
            - dh_prev = z * dh + ds @ self.params["R"]
            + dh_prev = ds @ self.params["R"]
            """
            if subject == "gru"
            else """
            - dh_prev = z * dh + r * ds + dr_pre @ R_r + dz_pre @ R_z
            + dh_prev = r * ds + dr_pre @ R_r + dz_pre @ R_z
            """,
            "a backward without the direct way from h to h before the step",
        ),
    ]


BUGS = [
    *of_unit("gru"),
    *of_unit("original-gru"),
    Bug(
        "reset-gate-before-the-product",
        ("gru.*",),
        (GRUCell,),
        """
        - n_pre = a_n + r * s_n
        + R_n, b_n = p["R"][2 * self.hidden_size :], p["b_h"][2 * self.hidden_size :]
        + n_pre = a_n + (r * h_prev) @ R_n.T + b_n
        - dr_pre = dn_pre * s_n * sigmoid_slope(r_pre)
        + R_n = self.params["R"][2 * self.hidden_size :]
        + dr_pre = (dn_pre @ R_n) * h_prev * sigmoid_slope(r_pre)
        - ds = np.hstack([dr_pre, dz_pre, r * dn_pre])
        + ds = np.hstack([dr_pre, dz_pre, dn_pre])
        - dh_prev = z * dh + ds @ self.params["R"]
        + rest = ds[:, : -self.hidden_size] @ self.params["R"][: -self.hidden_size]
        + dh_prev = z * dh + rest + (dn_pre @ R_n) * r
        - dR = ds.T @ h_prev
        + dR = np.vstack([dr_pre.T @ h_prev, dz_pre.T @ h_prev, dn_pre.T @ (r * h_prev)])
        """,
        "a GRU that applies the reset gate to h before the product with R, which is that of Cho et "
        "al. (2014), and ONNX's with linear_before_reset = 0",
    ),
    Bug(
        "reset-gate-leaves-bias-alone",
        ("gru.*",),
        (GRUCell,),
        """
        - n_pre = a_n + r * s_n
        + b_n = p["b_h"][2 * self.hidden_size :]
        + s_n = s_n - b_n
        + n_pre = a_n + r * s_n + b_n
        - db, db_h = da.sum(axis=0), ds.sum(axis=0)
        + db, db_h = da.sum(axis=0), da.sum(axis=0)
        """,
        "a GRU that adds the second bias of n outside of the reset gate, as if both biases were "
        "one",
    ),
    Bug(
        "reset-gate-missing-in-backward",
        ("gru.*",),
        (GRUCell,),
        """
        - ds = np.hstack([dr_pre, dz_pre, r * dn_pre])
        + ds = np.hstack([dr_pre, dz_pre, dn_pre])
        """,
        "a backward that takes n's gradient to R, b′ and h without the reset gate",
    ),
    Bug(
        "reset-gate-after-the-product",
        ("original-gru.*",),
        (OriginalGRUCell,),
        """
        - n_pre = a_n + s @ R_n.T
        + n_pre = a_n + r * (h_prev @ R_n.T)
        - ds = dn_pre @ R_n
        + ds = (r * dn_pre) @ R_n
        - dr_pre = ds * h_prev * sigmoid_slope(r_pre)
        + dr_pre = dn_pre * (h_prev @ R_n.T) * sigmoid_slope(r_pre)
        - dh_prev = z * dh + r * ds + dr_pre @ R_r + dz_pre @ R_z
        + dh_prev = z * dh + ds + dr_pre @ R_r + dz_pre @ R_z
        - dR = np.vstack([dr_pre.T @ h_prev, dz_pre.T @ h_prev, dn_pre.T @ s])
        + dR = np.vstack([dr_pre.T @ h_prev, dz_pre.T @ h_prev, (r * dn_pre).T @ h_prev])
        """,
        "a GRU that applies the reset gate to R h, not to h, as torch.nn.GRU does",
    ),
    Bug(
        "candidate-matrix-reads-h-without-reset",
        ("original-gru.*",),
        (OriginalGRUCell,),
        """
        - dR = np.vstack([dr_pre.T @ h_prev, dz_pre.T @ h_prev, dn_pre.T @ s])
        + dR = np.vstack([dr_pre.T @ h_prev, dz_pre.T @ h_prev, dn_pre.T @ h_prev])
        """,
        "a backward that forms the gradient of n's part of R with h, not with r ∘ h",
    ),
    Bug(
        "relu-for-tanh",
        ("elman.*",),
        (ElmanCell,),
        """
        - tanh = self.nonlinearity == "tanh"
        + tanh = self.nonlinearity != "tanh"
        - slope = tanh_slope(h_pre) if self.nonlinearity == "tanh" else h_pre.real > 0
        + slope = tanh_slope(h_pre) if self.nonlinearity != "tanh" else h_pre.real > 0
        """,
        "a network with the other nonlinearity, relu for tanh or tanh for relu",
    ),
    Bug(
        "bias-twice",
        ("elman.*",),
        (ElmanCell,),
        """
        - h_pre = x @ p["W"].T + h_prev @ p["R"].T + p["b"]
        + h_pre = x @ p["W"].T + h_prev @ p["R"].T + 2 * p["b"]
        """,
        "a network that adds the bias twice, as where b is both of PyTorch's biases",
    ),
    Bug(
        "recurrent-matrix-transposed",
        ("elman.*",),
        (ElmanCell,),
        """
        - h_pre = x @ p["W"].T + h_prev @ p["R"].T + p["b"]
        + h_pre = x @ p["W"].T + h_prev @ p["R"] + p["b"]
        - dh_prev = dh_pre @ self.params["R"]
        + dh_prev = dh_pre @ self.params["R"].T
        - dR = dh_pre.T @ h_prev
        + dR = h_prev.T @ dh_pre
        """,
        "a network that multiplies h by the transpose of R",
    ),
    Bug(
        "candidate-slope-of-pre-activation",
        ("elman.*",),
        (ElmanCell,),
        """
        - slope = tanh_slope(h_pre) if self.nonlinearity == "tanh" else h_pre.real > 0
        + slope = 1 - h_pre**2 if self.nonlinearity == "tanh" else h_pre.real > 0
        """,
        "a backward that takes 1 − h̃² for the slope of tanh(h̃)",
        flags=("nonlinearity=tanh",),
    ),
    Bug(
        "state-in-place",
        ("elman.*",),
        (ElmanCell,),
        """
        - tanh = self.nonlinearity == "tanh"
        + tanh, seen = self.nonlinearity == "tanh", h_prev.copy()
        + for unit in range(self.hidden_size):
        +     h_pre[:, unit] = x @ p["W"][unit] + seen @ p["R"][unit] + p["b"][unit]
        +     seen[:, unit] = np.tanh(h_pre[:, unit]) if tanh else np.maximum(h_pre[:, unit], 0)
        """,
        "a cell that writes h over h before the step, unit by unit, so that later units see the "
        "new one",
    ),
]
