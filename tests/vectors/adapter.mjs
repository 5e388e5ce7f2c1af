// adapter.mjs: groups rng and metrics of data/vectors, in JavaScript, from SPEC.md. An example of how little
// an adapter is:  r2rec verify -- node tests/vectors/adapter.mjs
import { createInterface } from 'node:readline';

const mask = 0xffffffffn, lo = x => x & mask, hi = x => x >> 32n;

function philox([c0, c1, c2, c3], [k0, k1]) {
    for (let round = 0; round < 10; ++round) {
        const p0 = 0xD2511F53n * c0, p1 = 0xCD9E8D57n * c2;
        [c0, c1, c2, c3] = [hi(p1) ^ c1 ^ k0, lo(p1), hi(p0) ^ c3 ^ k1, lo(p0)];
        [k0, k1] = [lo(k0 + 0x9E3779B9n), lo(k1 + 0xBB67AE85n)];
    }
    return [c0, c1, c2, c3];
}

function generator(seed, stream, index) {
    let block = 0n, words = [];
    const u32 = () => {
        if (!words.length) words = philox([block++, BigInt(stream), lo(index), hi(index)], [lo(seed), hi(seed)]);
        return words.shift();
    };
    const u64 = () => u32() << 32n | u32();
    const double = () => Number(u64() >> 11n) * 2 ** -53;
    const normal = () => { const a = double(), b = double(); return Math.sqrt(-2 * Math.log(1 - a)) * Math.cos(6.283185307179586 * b); };
    const gumbel = () => -Math.log(-Math.log(double() + 2 ** -54));
    const below = n => {
        if (n <= 1n) return 0n;
        if (n <= mask) for (;;) { const p = u32() * n; if (lo(p) >= (mask + 1n - n) % n) return hi(p); }
        const top = (1n << 64n) - 1n;
        for (;;) { const x = u64(); if (x < top - top % n) return x % n; }
    };
    return { u32, u64, double, normal, gumbel, below };
}

const hex = x => '0x' + x.toString(16);
const number = x => typeof x === 'string' ? Number(x) : x;
const of = i => generator(BigInt(i.seed), i.stream, BigInt(i.index));
const times = (n, f) => Array.from({ length: n }, (_, k) => f(k));
const sum = list => list.reduce((a, b) => a + b, 0);

function rank(scores) {
    const [s, ...others] = scores.map(x => Math.fround(number(x))), nan = Number.isNaN(s);
    if (s === undefined) throw Error('no scores');
    return { better: others.filter(x => x > s || (nan && !Number.isNaN(x))).length,
             tied: others.filter(x => x === s || (nan && Number.isNaN(x))).length };
}

function metrics({ scores, k }) {
    if (!scores.length || scores.some(row => row.length !== scores[0].length)) throw Error('no matrix');
    const n = scores[0].length, ranks = scores.map(rank), mean = f => sum(ranks.map(f)) / ranks.length;
    const over = gain => r => sum(times(r.tied + 1, j => gain(r.better + 1 + j))) / (r.tied + 1);
    const hit = over(r => r <= k ? 1 : 0);
    return { hr: mean(hit), ndcg: mean(over(r => r <= k ? 1 / Math.log2(r + 1) : 0)), mrr: mean(over(r => 1 / r)),
             auc: n > 1 ? mean(r => 1 - (r.better + r.tied / 2) / (n - 1)) : 0, tie_rate: mean(r => r.tied > 0 ? 1 : 0),
             hits: ranks.map(hit) };
}

function bootstrap({ values, n_bootstrap: B, seed }) {
    const n = values.length, at = p => Math.floor(p * (B - 1) + 0.5);
    if (!n || B < 1) throw Error('nothing to resample');
    const means = times(B, b => { const g = generator(BigInt(seed), 9, BigInt(b));
        return sum(times(n, () => values[Number(g.below(BigInt(n)))])) / n; }).sort((a, b) => a - b);
    return { lo: means[at(0.025)], hi: means[at(0.975)] };
}

function mcnemar({ only_a: a, only_b: b }) {
    if (a < 0 || b < 0) throw Error('negative');
    let term = 0.5 ** (a + b), tail = 0;
    for (let i = 0; i <= Math.min(a, b); ++i) { tail += term; term *= (a + b - i) / (i + 1); }
    return { p: Math.min(1, 2 * tail) };
}

function distinct(input) {
    const g = of(input), drawn = [];
    if (input.k > input.total) throw Error('too many');
    return { values: times(input.k, j => {
        let x = Number(g.below(BigInt(input.total - j)));
        for (const d of [...drawn].sort((a, b) => a - b)) if (d <= x) ++x; else break;
        drawn.push(x);
        return x;
    }) };
}

function shuffle({ n, seed, epoch }) {
    const g = generator(BigInt(seed), 7, BigInt(epoch)), order = times(n, k => k);
    for (let k = n - 1; k > 0; --k) { const j = Number(g.below(BigInt(k + 1))); [order[k], order[j]] = [order[j], order[k]]; }
    return { order };
}

const draws = (name, write) => i => { const g = of(i); return { values: times(i.n, () => write(g[name]())) }; };
const groups = {
    rng: {
        philox: i => ({ words: philox(i.counter.map(BigInt), i.key.map(BigInt)).map(Number) }),
        u32: draws('u32', Number), u64: draws('u64', hex), double: draws('double', x => x),
        normal: draws('normal', x => x), gumbel: draws('gumbel', x => x),
        below: i => { const g = of(i); return { values: i.bounds.map(n => hex(g.below(BigInt(n)))) }; },
        fnv: i => ({ hash: hex([...Buffer.from(i.text)].reduce((h, c) => BigInt.asUintN(64, (h ^ BigInt(c)) * 0x100000001B3n), 0xCBF29CE484222325n)) }),
        hash: i => { const s = BigInt(i.seed), a = BigInt(i.a), b = BigInt(i.b);
            const w = philox([lo(a), hi(a), lo(b), hi(b)], [lo(s), hi(s) ^ 0x68617368n]); return { hash: hex(w[0] << 32n | w[1]) }; },
        shuffle, distinct,
    },
    metrics: { rank: i => rank(i.scores), metrics, bootstrap, mcnemar },
};

function reply({ cmd, id, group, op, input }) {
    if (cmd === 'start') return { version: 1, implementation: { name: 'adapter.mjs', language: 'JavaScript', version: '1' } };
    if (cmd === 'group') return { ok: group in groups };
    if (!groups[group]?.[op]) return { id, skip: 'not implemented' };
    try { return { id, output: groups[group][op](input) }; } catch (error) { return { id, error: error.message }; }
}

createInterface({ input: process.stdin }).on('line', line => {
    const message = JSON.parse(line);
    if (message.cmd === 'stop') process.exit(0);
    console.log(JSON.stringify(reply(message)));
});
