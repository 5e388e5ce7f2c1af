// Encodes the strings of token_vectors.c with Hugging Face's own JavaScript tokenizer, learns the merges
// again with a plain trainer, and writes what test_token.c compares with.
//
//     npm install @huggingface/tokenizers
//     node token_vectors.mjs DIR [TOKENIZER...] > token_vectors.txt
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { Tokenizer } = createRequire(process.cwd() + '/')('@huggingface/tokenizers')
const dir = process.argv[2]
const strings = readFileSync(`${dir}/strings.jsonl`, 'utf8').trimEnd().split('\n').map(s => JSON.parse(s))
const block = 500

// The rules once more, in JavaScript's regular expressions.
const space = '\\p{White_Space}'
const gpt2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${space}\\p{L}\\p{N}]+|${space}+(?!\\P{White_Space})|${space}+`
const qwen2 = `'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}` +
  `| ?[^${space}\\p{L}\\p{N}]+[\\r\\n]*|${space}*[\\r\\n]+|${space}+(?!\\P{White_Space})|${space}+`
const cut = {
  gpt2: t => t.match(new RegExp(gpt2, 'gu')),
  qwen2: t => t.normalize('NFC').match(new RegExp(qwen2, 'gu')),
  digits: t => t.split(/(\p{N})/u).filter(s => s).flatMap(s => /^\p{N}$/u.test(s) ? [s] : s.match(new RegExp(gpt2, 'gu'))),
}

// Bytes as letters, as in GPT-2.
const letters = []
for (let b = 0, next = 256; b < 256; ++b)
  letters.push(String.fromCodePoint((b > 32 && b < 127) || (b > 160 && b !== 173) ? b : next++))

// A trainer that counts everything anew for each merge.
function train(pieces, vocab, wanted) {
  const words = new Map()
  for (const p of pieces) {
    const w = [...Buffer.from(p)].map(b => letters[b]).join(' ')
    words.set(w, (words.get(w) ?? 0) + 1)
  }
  let rows = [...words].map(([w, n]) => ({ s: w.split(' '), n }))
  const merges = []
  while (merges.length < wanted) {
    const counts = new Map()
    for (const { s, n } of rows)
      for (let i = 0; i + 1 < s.length; ++i) {
        const key = s[i] + ' ' + s[i + 1]
        counts.set(key, (counts.get(key) ?? 0) + n)
      }
    let best = null, most = 1
    for (const [key, n] of counts) {
      if (n < most || (n === most && !best)) continue
      const [l, r] = key.split(' ').map(x => vocab[x])
      if (n > most || l < best.l || (l === best.l && r < best.r)) { best = { key, l, r }; most = n }
    }
    if (!best) break
    merges.push(best.key)
    const [l, r] = best.key.split(' ')
    for (const row of rows) {
      const s = row.s
      if (!s.includes(l)) continue
      const out = []
      for (let i = 0; i < s.length; ++i)
        if (i + 1 < s.length && s[i] === l && s[i + 1] === r) { out.push(l + r); ++i } else out.push(s[i])
      row.s = out
    }
  }
  return merges
}

const corpus = strings.map(s => s + '\n').join('')
console.log('# Strings of token_strings.h, encoded by @huggingface/tokenizers 0.2.0; merges by token_vectors.mjs.')
console.log('# Tokenizer, FNV-1a of all merges, then one FNV-1a of the ids for every 500 strings.')
for (const name of process.argv.length > 3 ? process.argv.slice(3) : ['gpt2', 'qwen2', 'digits', 'qwen2-data']) {
  const json = JSON.parse(readFileSync(`${dir}/${name}.json`, 'utf8'))
  const rule = name.replace('-data', '')
  const merges = train(cut[rule](corpus), json.model.vocab, json.model.merges.length + 5)
    .slice(0, json.model.merges.length)
  const differs = merges.findIndex((m, i) => m !== json.model.merges[i])
  if (differs >= 0 || merges.length !== json.model.merges.length)
    console.error(`${name}: merge ${differs} is '${json.model.merges[differs]}', expected '${merges[differs]}'`)
  const hash = (h, ids) => {
    for (const id of ids) h = Math.imul(h ^ id, 16777619) >>> 0
    return Math.imul(h ^ 0xFFFFFFFF, 16777619) >>> 0
  }
  const id = new Map(Object.entries(json.model.vocab))
  const line = [name, hash(2166136261, merges.flatMap(m => m.split(' ').map(x => id.get(x))))]
  // The Digits of the Rust library isolates all of \p{N}, that of the JavaScript one only ASCII digits.
  if (name === 'digits')
    json.pre_tokenizer.pretokenizers[0] = { type: 'Split', pattern: { Regex: '\\p{N}' }, behavior: 'Isolated', invert: false }
  // Without added tokens everything is data.
  if (name.endsWith('-data')) json.added_tokens = []
  const tokenizer = new Tokenizer(json, { clean_up_tokenization_spaces: false })
  let h = 2166136261
  strings.forEach((text, i) => {
    h = hash(h, tokenizer.encode(text, { add_special_tokens: false }).ids)
    if ((i + 1) % block === 0) { line.push(h); h = 2166136261 }
  })
  console.log(line.join(' '))
}
