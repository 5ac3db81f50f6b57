"""Every cell once more, in NumPy, with its backward pass through time derived by hand.

Nothing here is shared with the package: an error in a page of `cells/` and in autograd's use of it
shows as a difference. Each function takes

    w       the parameters by their names, float64
    x       (B, T, D)                      first   the initial state's fields, each (B, H)
    dy      (B, T, H), dlast               the loss's gradient by the outputs and by the last state
    m_h, m_c  (B, H)                       the masks on the old output and on the candidate
    options   the cell's own

and returns (Y, last state, {name: the loss's gradient}), the gradients named like the parameters,
"x", and "h0", "c0" for the initial state. For layer norm only Y and the last state are computed.
"""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


PHI = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0.0), "sigmoid": sigmoid}
SLOPE = {"tanh": lambda h: 1.0 - h * h, "relu": lambda h: (h > 0.0) * 1.0, "sigmoid": lambda h: h * (1.0 - h)}
"""phi' as a function of phi's value."""


def normalise(a):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)


def affine(w: Arrays, v: np.ndarray, side: str, groups: tuple[slice, ...]) -> np.ndarray:
    """v W' + b for side "ih" or "hh"; with layer norm gain * norm(v W') + b, group by group."""
    a = v @ w[f"weight_{side}"].T
    if f"gain_{side}" in w:
        a = np.concatenate([normalise(a[..., g]) for g in groups], -1) * w[f"gain_{side}"]
    return a + w.get(f"bias_{side}", 0.0)


def add(grads: Arrays, name: str, value: np.ndarray) -> None:
    grads[name] = grads.get(name, 0.0) + value


def gates(grads: Arrays, w: Arrays, x, h_in, da, du):
    """What every cell's gates send back: da (B, G*H) by W x + b_ih, du by U h_in + b_hh.
    Returns the gradients by x_t and h_in."""
    add(grads, "weight_ih", da.T @ x)
    add(grads, "weight_hh", du.T @ h_in)
    add(grads, "bias_ih", da.sum(0))
    add(grads, "bias_hh", du.sum(0))
    return da @ w["weight_ih"], du @ w["weight_hh"]


def rnn(w, x, first, dy, dlast, m_h, m_c, options):
    phi, slope = PHI[options["nonlinearity"]], SLOPE[options["nonlinearity"]]
    (h,), tape, ys = first, [], []
    for t in range(x.shape[1]):
        h_in = h * m_h
        raw = phi(affine(w, x[:, t], "ih", (np.s_[:],)) + affine(w, h_in, "hh", (np.s_[:],)))
        h = raw * m_c
        tape.append((h_in, raw))
        ys.append(h)
    if "gain_ih" in w:
        return np.stack(ys, 1), (h,), {}
    grads, dx, (dh,) = {}, np.zeros_like(x), dlast
    for t in reversed(range(x.shape[1])):
        h_in, raw = tape[t]
        da = (dh + dy[:, t]) * m_c * slope(raw)
        dx[:, t], dh = gates(grads, w, x[:, t], h_in, da, da)
        dh = dh * m_h
    return np.stack(ys, 1), (h,), grads | {"x": dx, "h0": dh}


def jordan(w, x, first, dy, dlast, m_h, m_c, options):
    phi, slope = PHI[options["nonlinearity"]], SLOPE[options["nonlinearity"]]
    (y,), tape, ys = first, [], []
    for t in range(x.shape[1]):
        y_in = y * m_h
        raw = phi(affine(w, x[:, t], "ih", (np.s_[:],)) + affine(w, y_in, "hh", (np.s_[:],)))
        y = phi((raw * m_c) @ w["weight_ho"].T + w.get("bias_ho", 0.0))
        tape.append((y_in, raw, y))
        ys.append(y)
    if "gain_ih" in w:
        return np.stack(ys, 1), (y,), {}
    grads, dx, (dnext,) = {}, np.zeros_like(x), dlast
    for t in reversed(range(x.shape[1])):
        y_in, raw, out = tape[t]
        dv = (dnext + dy[:, t]) * slope(out)
        add(grads, "weight_ho", dv.T @ (raw * m_c))
        add(grads, "bias_ho", dv.sum(0))
        da = (dv @ w["weight_ho"]) * m_c * slope(raw)
        dx[:, t], dnext = gates(grads, w, x[:, t], y_in, da, da)
        dnext = dnext * m_h
    return np.stack(ys, 1), (y,), grads | {"x": dx, "h0": dnext}


def lstm(w, x, first, dy, dlast, m_h, m_c, options):
    p_i, p_f, p_o = (w.get(f"weight_p{gate}", 0.0) for gate in "ifo")
    (h, c), tape, ys = first, [], []
    for t in range(x.shape[1]):
        h_in, c_old = h * m_h, c
        a = affine(w, x[:, t], "ih", (np.s_[:],)) + affine(w, h_in, "hh", (np.s_[:],))
        i, f, g, o = np.split(a, 4, -1)
        i, f, g = sigmoid(i + p_i * c_old), sigmoid(f + p_f * c_old), np.tanh(g)
        c = f * c_old + i * g * m_c
        o = sigmoid(o + p_o * c)
        h = o * np.tanh(normalise(c) * w["gain_c"] + w["bias_c"] if "gain_c" in w else c)
        tape.append((h_in, c_old, i, f, g, o, c))
        ys.append(h)
    if "gain_ih" in w:
        return np.stack(ys, 1), (h, c), {}
    grads, dx, (dh, dc) = {}, np.zeros_like(x), dlast
    for t in reversed(range(x.shape[1])):
        h_in, c_old, i, f, g, o, c_new = tape[t]
        dh = dh + dy[:, t]
        s = np.tanh(c_new)
        do = dh * s * o * (1 - o)
        dc = dc + dh * o * (1 - s * s) + do * p_o
        di = dc * g * m_c * i * (1 - i)
        df = dc * c_old * f * (1 - f)
        dg = dc * i * m_c * (1 - g * g)
        for name, value in (("weight_pi", di * c_old), ("weight_pf", df * c_old), ("weight_po", do * c_new)):
            add(grads, name, value.sum(0))
        da = np.concatenate([di, df, dg, do], -1)
        dx[:, t], dh = gates(grads, w, x[:, t], h_in, da, da)
        dh, dc = dh * m_h, dc * f + di * p_i + df * p_f
    return np.stack(ys, 1), (h, c), grads | {"x": dx, "h0": dh, "c0": dc}


def gru(w, x, first, dy, dlast, m_h, m_c, options):
    run = gru_after if options["reset"] == "after" else gru_before
    return run(w, x, first, dy, dlast, m_h, m_c)


def gru_after(w, x, first, dy, dlast, m_h, m_c):
    (h,), tape, ys, H = first, [], [], first[0].shape[1]
    groups = (np.s_[: 2 * H], np.s_[2 * H :])
    for t in range(x.shape[1]):
        h_old, h_in = h, h * m_h
        a_r, a_z, a_n = np.split(affine(w, x[:, t], "ih", groups), 3, -1)
        u_r, u_z, u_n = np.split(affine(w, h_in, "hh", groups), 3, -1)
        r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
        n = np.tanh(a_n + r * u_n)
        h = (1 - z) * n * m_c + z * h_old
        tape.append((h_old, h_in, r, z, n, u_n))
        ys.append(h)
    if "gain_ih" in w:
        return np.stack(ys, 1), (h,), {}
    grads, dx, (dh,) = {}, np.zeros_like(x), dlast
    for t in reversed(range(x.shape[1])):
        h_old, h_in, r, z, n, u_n = tape[t]
        dh = dh + dy[:, t]
        dn = dh * (1 - z) * m_c * (1 - n * n)
        dz = dh * (h_old - n * m_c) * z * (1 - z)
        dr = dn * u_n * r * (1 - r)
        da, du = np.concatenate([dr, dz, dn], -1), np.concatenate([dr, dz, dn * r], -1)
        dx[:, t], back = gates(grads, w, x[:, t], h_in, da, du)
        dh = dh * z + back * m_h
    return np.stack(ys, 1), (h,), grads | {"x": dx, "h0": dh}


def gru_before(w, x, first, dy, dlast, m_h, m_c):
    (h,), tape, ys, H = first, [], [], first[0].shape[1]
    groups, U = (np.s_[: 2 * H], np.s_[2 * H :]), w["weight_hh"]
    b = w.get("bias_hh", np.zeros(3 * H))
    gain = w.get("gain_hh")
    for t in range(x.shape[1]):
        h_old, h_in = h, h * m_h
        a_r, a_z, a_n = np.split(affine(w, x[:, t], "ih", groups), 3, -1)
        u = h_in @ U[: 2 * H].T
        u_r, u_z = np.split((u if gain is None else normalise(u) * gain[: 2 * H]) + b[: 2 * H], 2, -1)
        r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
        q = r * h_old * m_h
        u_n = q @ U[2 * H :].T
        n = np.tanh(a_n + (u_n if gain is None else normalise(u_n) * gain[2 * H :]) + b[2 * H :])
        h = (1 - z) * n * m_c + z * h_old
        tape.append((h_old, h_in, r, z, n, q))
        ys.append(h)
    if gain is not None:
        return np.stack(ys, 1), (h,), {}
    grads, dx, (dh,) = {}, np.zeros_like(x), dlast
    for t in reversed(range(x.shape[1])):
        h_old, h_in, r, z, n, q = tape[t]
        dh = dh + dy[:, t]
        dn = dh * (1 - z) * m_c * (1 - n * n)
        dz = dh * (h_old - n * m_c) * z * (1 - z)
        dq = dn @ U[2 * H :]
        dr = dq * h_old * m_h * r * (1 - r)
        da, drz = np.concatenate([dr, dz, dn], -1), np.concatenate([dr, dz], -1)
        add(grads, "weight_ih", da.T @ x[:, t])
        add(grads, "weight_hh", np.concatenate([drz.T @ h_in, dn.T @ q]))
        add(grads, "bias_ih", da.sum(0))
        add(grads, "bias_hh", da.sum(0))
        dx[:, t] = da @ w["weight_ih"]
        dh = dh * z + (drz @ U[: 2 * H]) * m_h + dq * m_h * r
    return np.stack(ys, 1), (h,), grads | {"x": dx, "h0": dh}


BY_NAME = {"rnn": rnn, "jordan": jordan, "lstm": lstm, "gru": gru}
