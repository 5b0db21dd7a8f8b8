//! The texts below the options in the help pages.

pub(super) const ENDPOINTS_AND_EXITS: &str = "\
Endpoints:
  :8000  127.0.0.1:8000  localhost:8000  [::1]:8000  tcp:HOST:PORT
  ./app.sock  /run/app.sock  unix:app.sock  unix:@abstract-name
  unix:/run/app.sock?mode=0660&group=app  (mode, group and dir=any: for serve)
  unix:/run/app.sock?user=app             (a server of this user, or user=any)

Examples:
  procbridge serve :8000 --demo
  procbridge call :8000 sum '[1,2,3,4]'
  procbridge list :8000
  procbridge watch :8000 'build.*'

ExitCode codes:
  0  success
  1  failure of this program or of the system
  2  wrong command line or input
  3  the server answered with an error
  4  cannot connect, or cannot listen
  5  time limit
  6  protocol violated, or connection lost without an answer
  7  denied
  8  a threshold was missed
  130, 143  ended by SIGINT, SIGTERM

Environment:
  PROCBRIDGE_ENDPOINT  the default endpoint
  PROCBRIDGE_TOKEN     the default of --token
  NO_COLOR             no colours when set";

pub(super) const CALL_HELP: &str = "\
Examples:
  procbridge call :8000 sum '[1,2,3,4]'
  procbridge call /run/app.sock greet '\"Ada\"'     a string has its JSON quotes
  procbridge call :8000 add name=Ada age:=36      sends {\"name\":\"Ada\",\"age\":36}
  procbridge call :8000 store @data.json          the payload is in a file
  procbridge call :8000 note text=@note.txt       the string is in a file
  generate | procbridge call :8000 store -
  procbridge call :8000 sleep 10 --timeout 200ms  ends with exit code 5
  procbridge call :8000 echo '{\"a\":1}' --json | jq .payload
  procbridge call :8000 count n:=3 --stream       prints 0, 1, 2
  procbridge call :8000 publish topic=a --notify  waits for no answer
  procbridge call :8000 sum '[1]' --count 10000   how fast is it?

With PROCBRIDGE_ENDPOINT set the endpoint may be left out: a first argument that
does not read as an endpoint is the method then.

JSON text is sent as it stands: no digit and no order of keys is changed. So is
the result. A byte order mark before JSON is taken off. A terminal shows controls
and invisible characters escaped, with --raw too; a pipe gets each byte.

--json prints one of these on one line:
  {\"ok\":true,\"payload\":..,\"elapsed_us\":..}
  {\"ok\":false,\"error\":{\"kind\":..,\"code\":..,\"message\":..,\"data\":..,
   \"outcome\":..},\"exit\":..,\"elapsed_us\":..}
The outcome is \"replied\", \"not_sent\" (safe to send again) or \"unknown\" (the call
may have run). With --stream each item is a line {\"item\":..} before it, and
\"items\" tells their number. With --count there are also \"calls\",
\"calls_per_second\", \"p50_us\", \"p90_us\", \"p99_us\" and \"max_us\".

SIGINT (ctrl-C) and SIGTERM cancel the call: a server that holds a session is
told. What a stream has brought by then is printed. With --stream the call is
cancelled also when the reader of the output has gone; the exit code is 0 then.

ExitCode codes:
  0  result                         5  the time limit passed
  1  internal failure               6  protocol violated, or no answer
  2  wrong command line or input    7  denied
  3  the server answered an error   130, 143  ended by SIGINT, SIGTERM
  4  cannot connect";

pub(super) const WATCH_HELP: &str = "\
Examples:
  procbridge watch :8000 'build.*'
  procbridge watch /run/app.sock build.done test.failed
  procbridge watch :8000 '*' --count 1 | jq .payload

Each event is a line of JSON:
  {\"topic\":\"build.done\",\"payload\":42}
When events were lost just before it, it has the key \"missed\": their number, or
\"unknown\" after the connection was lost.

Standard error tells when watching has begun: from then on no event is missed. A
lost connection is made again, for as long as it takes, which standard error tells
too. At the start the server must be there. Watching ends when the reader of the
output has gone, with exit code 0.

ExitCode codes:
  0  as many events as asked for    5  the time limit of connecting passed
  1  internal failure               6  protocol violated
  2  wrong command line             7  denied
  3  the server has no events, or   130, 143  ended by SIGINT, SIGTERM
     refuses them
  4  cannot connect";

pub(super) const EMIT_HELP: &str = "\
Examples:
  procbridge emit :8000 build.done 42
  procbridge emit :8000 build.done job=nightly seconds:=93
  generate | procbridge emit /run/app.sock data.new -
  procbridge emit :8000 build.done --method admin.publish

It calls the method \"publish\", or that of --method, with
  {\"topic\":\"build.done\",\"payload\":42}
and prints the method's result. The demo server has such a method, whose result is
the number of those who watch the topic.

ExitCode codes:
  those of \"procbridge call\"";

pub(super) const PING_HELP: &str = "\
Examples:
  procbridge ping :8000
  procbridge ping /run/app.sock -n 1000 --interval 0s
  procbridge ping :8000 -n 100 -i 10ms --threshold 2ms || alert

A ping calls the method \"$/ping\", which every server of this version has. The
first opens the session, and connecting is part of its time.

--json prints one line at the end, whose payload has \"pings\", \"answers\",
\"p50_us\", \"p90_us\", \"p99_us\" and \"max_us\".

ExitCode codes:
  0  all were answered              5  the time limit of one passed
  1  internal failure               6  protocol violated, or no answer
  2  wrong command line             7  denied
  3  the server has no \"$/ping\"     8  over the threshold
  4  cannot connect                 130, 143  ended by SIGINT, SIGTERM";

pub(super) const INFO_HELP: &str = "\
Examples:
  procbridge info :8000
  procbridge info /run/app.sock | jq .max_body

In a pipe it is one line of JSON. What the server does not tell is null there.

A server of the classic protocol 1.1 has a connection for each call, and tells
nothing of itself. One that knows sessions tells its limits:
  max_body       largest body that it takes, in bytes
  max_calls      calls in flight in a session
  stream_window  items, and stream_bytes bytes, of a stream that it takes ahead
  codecs         compressions that it reads

ExitCode codes:
  0  something that speaks ProcBridge answered
  others as of \"procbridge call\"";

pub(super) const LIST_HELP: &str = "\
Examples:
  procbridge list :8000
  procbridge list /run/app.sock | grep build

On a terminal each name has what the server says of it. The names come from
\"$/describe\".

ExitCode codes:
  3  the server does not tell
  others as of \"procbridge call\"";

pub(super) const DESCRIBE_HELP: &str = "\
Examples:
  procbridge describe :8000
  procbridge describe :8000 sum
  procbridge describe :8000 --compact | jq '.methods[].name'

It is the answer of \"$/describe\": for each method its name, its kind (\"method\" or
\"stream\"), a line about it, and JSON Schemas of payload and result, or item of a
stream, where the server knows them.

ExitCode codes:
  3  the server does not tell, or has no such method
  others as of \"procbridge call\"";

pub(super) const STATS_HELP: &str = "\
Examples:
  procbridge stats :8000
  procbridge stats /run/app.sock | jq '.methods.sum.p99_us'

On a terminal it is a table, in a pipe the answer of \"$/stats\" as one line of
JSON. Times are in microseconds there.

ExitCode codes:
  3  the server does not tell
  others as of \"procbridge call\"";

pub(super) const SERVE_HELP: &str = "\
Examples:
  procbridge serve :8000 --demo
  procbridge serve /run/app.sock :8000 --exec './handler --fast'
  procbridge serve 'unix:/run/app.sock?mode=0660&group=app' --exec 'jq .name'
  procbridge serve :8000 --exec 'sort | uniq -c' --shell
  PROCBRIDGE_TOKEN=$(cat secret) procbridge serve :8000 --demo

Demo methods:
  echo     the payload, untouched
  sum      the sum of an array of numbers; whole numbers exactly
  err      always the error \"generated error\"
  sleep    null after a number of seconds
  count    a stream of 0 to n-1, with n and interval_ms: '{\"n\":3,\"interval_ms\":100}'
  call_me  what the caller's own method answers, with method and payload
  publish  an event for those who watch, with topic and payload; how many they are

Commands (--exec):
  PROCBRIDGE_METHOD has the method's name (unset if the call names none),
  PROCBRIDGE_PEER the caller. Standard input is the payload as JSON, null if
  there is none. Standard output that is JSON is the result as it stands; other
  text is a string without its last newline; nothing is null. A status other
  than 0 answers an error: the last line of standard error, the code
  \"exec.failed\" and the status as data. The answer is sent when the command
  has closed its output: one that leaves a program behind must redirect it.
  Commands run in process groups of their own, which are killed at the time
  limit, when the caller cancels, and when the server ends or is killed, by
  SIGKILL too: a process \"pb-guard\" sees to that. A program that starts a
  group of its own, or that an ended command has left, lives on. As PID 1 of a
  container the server collects such programs when they end.

When it listens it says so on standard error, with the ports that the system
chose:
  ready: listening on tcp:127.0.0.1:41233 unix:/run/app.sock

SIGTERM, SIGINT, SIGHUP and SIGQUIT end it in an orderly way: no new calls, those
in flight have the time of --drain. The exit code is 0 when all of them ended,
else 128 and the signal's number. A second signal ends it at once. Under nohup
SIGHUP does nothing.

Standard error never holds the server up: lines that its reader does not take are
dropped, and their number is told when it reads again.

Only loopback addresses and callers of the same user are served, unless the
options say otherwise. With a token other machines may call too: it goes over the
network as it is. Commands are not given PROCBRIDGE_TOKEN.

ExitCode codes:
  0  orderly end                    4  cannot listen
  1  internal failure               7  not allowed to listen there
  2  wrong command line             129, 130, 131, 143  cut short by SIGHUP,
                                    SIGINT, SIGQUIT, SIGTERM";

pub(super) const DECODE_HELP: &str = "\
Examples:
  procbridge decode 70 62 01 01 00 00 00 02 00 00 00 7b 7d
  procbridge decode 70:62:01:01:00:00:00:02:00:00:00:7b:7d
  procbridge decode @capture.bin
  procbridge decode @middle.bin --session
  xxd capture.bin | procbridge decode

Hexadecimal may have spaces, colons, commas, 0x and line breaks in it, or be the
output of hexdump -C or xxd. A file or standard input that begins with \"pb\" is
taken as the bytes themselves. At most 64 MiB are read.

Packets behind a HELLO have call ids, as have those of a client behind its offer.
A capture that begins in the middle of a session needs --session.

ExitCode codes:
  0  all packets are right          6  a packet breaks a rule
  2  the input is not hexadecimal";

pub(super) const COMPLETIONS_HELP: &str = "\
Examples:
  procbridge completions bash > /etc/bash_completion.d/procbridge
  procbridge completions zsh > ~/.zfunc/_procbridge
  procbridge completions fish > ~/.config/fish/completions/procbridge.fish";

pub(super) const MAN_HELP: &str = "\
Examples:
  procbridge man > procbridge.1
  procbridge man call > procbridge-call.1
  procbridge man call | man -l -";
