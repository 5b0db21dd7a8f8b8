// The published Node package procbridge 1.1.1 as a contender, with the command line of the others:
//
//     node.js serve node ENDPOINT
//     node.js call node ENDPOINT [--in-flight N] [--payload small|1m|BYTES] [--millis M] [--warm CALLS] [--calls N]
//                                [--server PROCESS]
//
// ENDPOINT: unix:/PATH or tcp:127.0.0.1:PORT. NODE_PATH names the folder into which `scripts/peers` installs the package.
//
// Server and client are as published: a connection for each call. With N calls in flight N chains of calls run side by
// side. The package's server cuts answers over 214 KiB on a Unix socket: measure large payloads over TCP, up to 1 MiB.

'use strict'

const fs = require('fs')
const { Client, Server } = require('procbridge')

function usage () {
  process.stderr.write('usage: node.js serve|call node ENDPOINT [OPTIONS]\n')
  process.exit(2)
}

// The arguments of the package's classes.
function endpoint (text) {
  if (text.startsWith('unix:')) {
    return [text.slice('unix:'.length)]
  }
  const found = /^tcp:(.+):(\d+)$/.exec(text)
  return found ? [found[1], Number(found[2])] : usage()
}

function payload (text) {
  if (text === 'small') {
    return { a: 1, b: [1, 2, 3], s: 'hello' }
  }
  const size = text.endsWith('m') ? parseInt(text) * 1024 * 1024 : parseInt(text)
  const words = 'the quick brown fox jumps over the lazy dog '
  return words.repeat(Math.ceil(size / words.length)).slice(0, size - 2)
}

function serve (where) {
  const server = new Server(...where, (method, payload) => payload)
  server.start()
  // start() returns before the server listens. The package's class keeps the net.Server in `server`.
  server.server.once('listening', () => process.stdout.write('ready\n'))
  process.stdin.on('end', () => process.exit(0))
  process.stdin.on('error', () => process.exit(0))
  process.stdin.resume()
}

// What a process has used, in microseconds: fields 14 and 15 of proc(5), in ticks of 10 ms.
function processorTime (id) {
  const fields = fs.readFileSync(`/proc/${id}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10000
}

function memory (key) {
  const found = new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(fs.readFileSync('/proc/self/status', 'utf8'))
  return found ? Number(found[1]) : 0
}

// When to stop: at a time, or after so many calls of all chains together.
function until ({ calls, millis }) {
  if (calls !== undefined) {
    return () => calls-- > 0
  }
  const end = process.hrtime.bigint() + BigInt(millis) * 1000000n
  return now => now < end
}

async function call (where, options) {
  const client = new Client(...where)
  const content = payload(options.payload || 'small')
  const inFlight = Number(options['in-flight'] || 1)
  const first = await client.request('echo', content)
  if (JSON.stringify(first) !== JSON.stringify(content)) {
    throw new Error('the answer is not what was sent')
  }

  const chain = async (allows, latencies) => {
    let now = process.hrtime.bigint()
    while (allows(now)) {
      await client.request('echo', content)
      const before = now
      now = process.hrtime.bigint()
      latencies.push(Number(now - before))
    }
  }
  const together = async allows => {
    const latencies = []
    await Promise.all(Array.from({ length: inFlight }, () => chain(allows, latencies)))
    return latencies.sort((a, b) => a - b)
  }

  await together(until({ calls: Number(options.warm || 1000) }))

  const serverUsed = options.server && processorTime(options.server)
  const used = process.cpuUsage()
  const begun = process.hrtime.bigint()
  const calls = options.calls && Number(options.calls)
  const latencies = await together(until({ calls, millis: options.millis || 1000 }))
  const elapsed = Number(process.hrtime.bigint() - begun)
  const { user, system } = process.cpuUsage(used)

  const report = { calls: latencies.length, elapsed_ns: elapsed }
  for (const [key, part] of [['p50_ns', 0.5], ['p90_ns', 0.9], ['p99_ns', 0.99], ['max_ns', 1]]) {
    report[key] = latencies[Math.min(Math.floor(part * latencies.length), latencies.length - 1)] || 0
  }
  report.cpu_us = user + system
  if (options.server) {
    report.server_cpu_us = processorTime(options.server) - serverUsed
  }
  report.rss_kib = memory('VmRSS')
  report.peak_kib = memory('VmHWM')
  process.stdout.write(`${JSON.stringify(report)}\n`)
}

const [verb, name, where, ...rest] = process.argv.slice(2)
if (name !== 'node' || where === undefined || rest.length % 2 !== 0) {
  usage()
} else if (verb === 'serve') {
  serve(endpoint(where))
} else if (verb === 'call') {
  const options = {}
  for (let at = 0; at < rest.length; at += 2) {
    options[rest[at].replace(/^--/, '')] = rest[at + 1]
  }
  call(endpoint(where), options).catch(error => {
    process.stderr.write(`${error.stack}\n`)
    process.exit(1)
  })
} else {
  usage()
}
