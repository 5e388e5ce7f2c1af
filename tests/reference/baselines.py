"""Reference values for tests/test_baselines.c, by NumPy and SciPy: prints them as C arrays."""
import numpy as np
from scipy.optimize import minimize

# Rows are users, columns items; the k-th 1 of a row, from the left, is the user's k-th interaction.
X = np.array([[1, 1, 1, 0, 0, 0],
              [1, 1, 0, 1, 0, 0],
              [0, 1, 1, 1, 0, 0],
              [0, 0, 1, 1, 1, 0],
              [0, 0, 0, 1, 1, 1],
              [1, 0, 0, 0, 1, 1]], dtype=float)


def query(half_life):
    Q = X.copy()
    for q in Q if half_life else []:
        seen = np.flatnonzero(q)
        q[seen] = 0.5 ** (np.arange(len(seen))[::-1] / half_life)
    return Q


def ease(ridge, half_life):
    P = np.linalg.inv(X.T @ X + ridge * np.eye(X.shape[1]))
    B = -P / np.diag(P)
    np.fill_diagonal(B, 0.0)
    return query(half_life) @ B


def ease_most(ridge, half_life, most):
    """The most popular items predict: themselves as in EASE^R, the others by ridge regression."""
    best = sorted(range(X.shape[1]), key=lambda i: (-X[:, i].sum(), i))[:most]
    rest = [i for i in range(X.shape[1]) if i not in best]
    P = np.linalg.inv(X[:, best].T @ X[:, best] + ridge * np.eye(most))
    B = np.zeros((X.shape[1], X.shape[1]))
    B[np.ix_(best, best)] = np.eye(most) - P / np.diag(P)
    B[np.ix_(best, rest)] = P @ X[:, best].T @ X[:, rest]
    return query(half_life) @ B


def logistic(words, y, l2):
    """Words (n, places): features are (place, word) in the order of their first appearance."""
    column = {}
    rows = []
    for example in words:
        rows.append([0] + [column.setdefault((k, w), len(column) + 1) for k, w in enumerate(example)])
    A = np.zeros((len(y), len(column) + 1))
    for a, row in zip(A, rows):
        a[row] = 1
    ridge = np.full(A.shape[1], l2)
    ridge[0] = 1e-6

    def loss(w):
        z = A @ w
        p = 1 / (1 + np.exp(-z))
        value = np.sum(np.logaddexp(0, z) - y * z) + 0.5 * np.sum(ridge * w * w)
        return value, A.T @ (p - y) + ridge * w

    w = minimize(loss, np.zeros(A.shape[1]), jac=True, method="L-BFGS-B",
                 options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 10000}).x
    return A @ w


def show(name, values):
    flat = np.asarray(values).ravel()
    print(f"static const float {name}[{len(flat)}] = {{" + ", ".join(f"{v:.8g}f" for v in flat) + "};")


show("want_ease", ease(2.0, 0.0))
show("want_ease_recency", ease(0.5, 2.0))
show("want_ease_most", ease_most(2.0, 2.0, 3))
k = np.arange(24)
words = np.stack([k % 3, 3 + k * k % 5 % 2, 5 + k // 8], 1)
show("want_log_odds", logistic(words, ((k * 7 % 11) % 3 == 0).astype(float), 0.5))
