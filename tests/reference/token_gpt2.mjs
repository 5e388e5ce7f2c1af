// GPT-2's own vocabulary: writes it as a tokenizer.json, and what tiktoken makes of the strings of
// token_vectors.c. Tiktoken merges by the rank of the joined token and has no list of merges, so they are
// found here: the last two parts that lower ranks leave of a token.
//
//     npm install js-tiktoken
//     token_vectors DIR && node token_gpt2.mjs DIR && token_vectors DIR tiktoken
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(process.cwd() + '/')
const { Tiktoken } = require('js-tiktoken/lite')
const ranks = require('js-tiktoken/ranks/gpt2')
const dir = process.argv[2]

const letters = []
for (let b = 0, next = 256; b < 256; ++b)
  letters.push(String.fromCodePoint((b > 32 && b < 127) || (b > 160 && b !== 173) ? b : next++))
const spell = bytes => [...bytes].map(c => letters[c.charCodeAt(0)]).join('')

const tokens = []
for (const line of ranks.bpe_ranks.split('\n')) {
  const [, first, ...words] = line.split(' ')
  words.forEach((word, i) => { tokens[Number(first) + i] = Buffer.from(word, 'base64').toString('latin1') })
}
const rank = new Map(tokens.map((token, id) => [token, id]))

function lastMerge(token, id) {
  const parts = [...token]
  for (;;) {
    let best = id, at = -1
    for (let i = 0; i + 1 < parts.length; ++i) {
      const r = rank.get(parts[i] + parts[i + 1])
      if (r !== undefined && r < best) { best = r; at = i }
    }
    if (at < 0) return parts.map(spell).join(' ')
    parts.splice(at, 2, parts[at] + parts[at + 1])
  }
}

const vocab = Object.fromEntries(tokens.map((token, id) => [spell(token), id]))
const [[text, id]] = Object.entries(ranks.special_tokens)
vocab[text] = id
writeFileSync(`${dir}/tiktoken.json`, JSON.stringify({
  added_tokens: [{ id, content: text, single_word: false, lstrip: false, rstrip: false, normalized: true, special: true }],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true },
  decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true },
  model: { type: 'BPE', vocab, merges: tokens.flatMap((t, i) => t.length > 1 ? [lastMerge(t, i)] : []) },
}))

const tokenizer = new Tiktoken(ranks)
const lines = readFileSync(`${dir}/strings.jsonl`, 'utf8').trimEnd().split('\n')
writeFileSync(`${dir}/tiktoken.ids`, lines.map(s => tokenizer.encode(JSON.parse(s), 'all').join(' ') + '\n').join(''))
