//! The arguments of `abuse`.

use crate::scenario::Scenario;
use crate::server::Target;

/// The run that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) is_short: bool,
    pub(crate) list: bool,
    pub(crate) table: bool,
    pub(crate) help: bool,
    /// One of the faces; without it all servers.
    pub(crate) face: Option<Target>,
    /// Names of scenarios; without any, all of the form that is wanted.
    pub(crate) names: Vec<String>,
}

/// The text of `--help`.
pub(crate) const USAGE: &str = "\
usage: scripts/abuse [--short] [--face FACE] [--table] [--list] [SCENARIO..]

Attacks a server of each face in a process of its own, a scenario after the other, while honest clients make calls, and
prints what they and the system notice. A scenario fails when a figure breaks its bound. A figure of time that does is
measured once more, in the short form up to three times, since other programs may have had the processors; a bound of
p99 allows for what a sleeping thread oversleeps meanwhile. Where a class has fewer than 100 calls, its p90 is taken.

  --short       the scenarios of the short form, each for half of the time: some minutes
  --face FACE   only servers of the face `blocking` or `tokio`; the command line's server is a blocking one
  --table       prints the rows of docs/figures.md as well
  --list        prints the scenarios, and runs none
  --help        this

The exit status is 1 if a scenario failed, 2 if the arguments are wrong.";

impl Options {
    /// Reads the arguments. The error says what is wrong with them.
    pub(crate) fn read(arguments: &[String], scenarios: &[Scenario]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(argument) = rest.next() {
            match argument {
                "--short" => options.is_short = true,
                "--list" => options.list = true,
                "--table" => options.table = true,
                "--help" | "-h" => options.help = true,
                "--face" => {
                    options.face = Some(match rest.next() {
                        Some("blocking") => Target::Blocking,
                        Some("tokio") => Target::Tokio,
                        Some(face) => return Err(format!("there is no face \"{face}\"")),
                        None => return Err("--face needs a value".to_string()),
                    });
                }
                _ if argument.starts_with('-') => return Err(format!("there is no option \"{argument}\"")),
                name if scenarios.iter().any(|scenario| scenario.name == name) => {
                    options.names.push(name.to_string());
                }
                name => return Err(format!("there is no scenario \"{name}\", see --list")),
            }
        }
        Ok(options)
    }

    /// Whether a scenario is to be run against a server.
    pub(crate) fn wants(&self, scenario: &Scenario, target: Target) -> bool {
        let is_named = if self.names.is_empty() {
            // The command line's server is one of the blocking face: the short form has it where it differs.
            !self.is_short
                || scenario.is_short && (target != Target::Demo || scenario.targets == [Target::Demo])
        } else {
            self.names.iter().any(|name| name == scenario.name)
        };
        let is_of_face = match self.face {
            None => true,
            Some(Target::Tokio) => target == Target::Tokio,
            Some(_) => target != Target::Tokio,
        };
        is_named && is_of_face
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::USUAL;

    fn read(line: &str) -> Result<Options, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_string).collect();
        let scenarios =
            [Scenario { name: "one", ..USUAL }, Scenario { name: "two", is_short: false, ..USUAL }];
        Options::read(&words, &scenarios)
    }

    #[test]
    fn wrong_arguments_are_told() {
        assert_eq!(read("--fast").unwrap_err(), "there is no option \"--fast\"");
        assert_eq!(read("--face").unwrap_err(), "--face needs a value");
        assert_eq!(read("--face async").unwrap_err(), "there is no face \"async\"");
        assert_eq!(read("three").unwrap_err(), "there is no scenario \"three\", see --list");
    }

    #[test]
    fn names_win_over_the_form() {
        let two = Scenario { name: "two", is_short: false, ..USUAL };
        assert!(!read("--short").unwrap().wants(&two, Target::Tokio));
        assert!(read("--short two").unwrap().wants(&two, Target::Tokio));
        assert!(!read("one").unwrap().wants(&two, Target::Tokio));
    }

    #[test]
    fn the_demo_server_has_the_blocking_face() {
        let one = Scenario { name: "one", ..USUAL };
        assert!(read("--face blocking").unwrap().wants(&one, Target::Demo));
        assert!(!read("--face tokio").unwrap().wants(&one, Target::Demo));
    }
}
