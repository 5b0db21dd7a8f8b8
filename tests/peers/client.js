// A test client over the published Node package `procbridge` 1.1.1. See README.md.
//
//     client.js tcp HOST PORT
//     client.js unix PATH

'use strict'

const { Client } = require('procbridge')

function makeClient (args) {
  if (args.length === 3 && args[0] === 'tcp' && /^\d+$/.test(args[2])) {
    return new Client(args[1], Number(args[2]))
  }
  if (args.length === 2 && args[0] === 'unix') {
    return new Client(args[1])
  }
  process.stderr.write('usage: client.js tcp HOST PORT | unix PATH\n')
  process.exit(2)
}

// Makes the calls of one command, and returns one JSON text per call: `concurrent` workers begin together and make
// `repeat` calls each, one after the other.
async function run (client, command) {
  const args = []
  if ('method' in command || 'payload' in command) {
    args.push(command.method)
  }
  if ('payload' in command) {
    args.push(command.payload)
  }
  const repeat = command.repeat === undefined ? 1 : command.repeat
  const workers = command.concurrent === undefined ? 1 : command.concurrent

  const call = async () => {
    try {
      return JSON.stringify({ ok: await client.request(...args) })
    } catch (err) {
      return JSON.stringify({ error: err.message, type: err.name })
    }
  }
  const work = async () => {
    const results = []
    for (let i = 0; i < repeat; i++) {
      results.push(await call())
    }
    return results
  }
  return (await Promise.all(Array.from({ length: workers }, work))).flat()
}

// Lines end at \n only. (The readline module would also end one at U+2028, which JSON allows inside a string.)
async function * lines (stream) {
  let pieces = []
  for await (const chunk of stream) {
    let start = 0
    for (let end; (end = chunk.indexOf(0x0a, start)) !== -1; start = end + 1) {
      pieces.push(chunk.subarray(start, end))
      yield Buffer.concat(pieces).toString('utf8')
      pieces = []
    }
    pieces.push(chunk.subarray(start))
  }
  yield Buffer.concat(pieces).toString('utf8')
}

async function main () {
  const client = makeClient(process.argv.slice(2))
  for await (const line of lines(process.stdin)) {
    if (line.trim() === '') {
      continue
    }
    const results = await run(client, JSON.parse(line))
    if (results.length > 1 && results.every(result => result === results[0])) {
      process.stdout.write(`{"results": [${results[0]}], "count": ${results.length}}\n`)
    } else {
      process.stdout.write(`{"results": [${results.join(', ')}]}\n`)
    }
  }
}

main().catch(err => {
  process.stderr.write(`${err.stack}\n`)
  process.exit(1)
})
