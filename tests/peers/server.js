// A test server over the published Node package `procbridge` 1.1.1. See README.md.
//
//     server.js tcp PORT      PORT 0 finds a free one
//     server.js unix PATH

'use strict'

const net = require('net')
const { Server } = require('procbridge')

const HOST = '127.0.0.1'
const ATTEMPTS = 50

function delegate (method, payload) {
  switch (method) {
    case 'echo':
      return payload
    case 'sum':
      return payload.reduce((sum, next) => sum + next, 0)
    case 'err':
      throw new Error('generated error')
    case 'sleep':
      return new Promise(resolve => setTimeout(() => resolve(null), payload * 1000))
    case 'big':
      return 'x'.repeat(payload.bytes)
    default:
      return null
  }
}

function freePort () {
  return new Promise((resolve, reject) => {
    const probe = net.createServer()
    probe.once('error', reject)
    probe.listen(0, HOST, () => {
      const port = probe.address().port
      probe.close(() => resolve(port))
    })
  })
}

// Settles when the server really listens. The package's start() returns before that, and reports nothing; its class
// keeps the net.Server in `server`. No listener stays behind: what happens later is the package's own behaviour.
function start (server) {
  server.start()
  return new Promise((resolve, reject) => {
    const inner = server.server
    const listening = () => {
      inner.removeListener('error', failed)
      resolve(server)
    }
    const failed = err => {
      inner.removeListener('listening', listening)
      reject(err)
    }
    inner.once('listening', listening)
    inner.once('error', failed)
  })
}

// The package does take port 0 but cannot tell which one it got, so a free one is found first.
async function startTcp (port) {
  if (port !== 0) {
    return start(new Server(HOST, port, delegate))
  }
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(new Server(HOST, await freePort(), delegate))
    } catch (err) {
      // Somebody else took the port between the probe and the start.
      if (err.code !== 'EADDRINUSE' || attempt === ATTEMPTS) {
        throw err
      }
    }
  }
}

async function main (args) {
  let server
  if (args.length === 2 && args[0] === 'tcp' && /^\d+$/.test(args[1])) {
    server = await startTcp(Number(args[1]))
    process.stdout.write(`ready tcp:${HOST}:${server.port}\n`)
  } else if (args.length === 2 && args[0] === 'unix') {
    server = await start(new Server(args[1], delegate))
    process.stdout.write(`ready unix:${args[1]}\n`)
  } else {
    process.stderr.write('usage: server.js tcp PORT | unix PATH\n')
    process.exit(2)
  }

  // Serve until standard input ends, so that a test that is killed leaves no server behind.
  const leave = () => {
    server.stop() // removes the socket file
    process.exit(0)
  }
  process.stdin.on('end', leave)
  process.stdin.on('error', leave)
  process.stdin.resume()
}

main(process.argv.slice(2)).catch(err => {
  process.stderr.write(`${err.stack}\n`)
  process.exit(1)
})
