//! The arguments of `procbridge completions`.

use clap::Args;
use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell to print the script for
    pub(crate) shell: Shell,
}

const HELP: &str = "\
Examples:
  procbridge completions bash > /etc/bash_completion.d/procbridge
  procbridge completions zsh > ~/.zfunc/_procbridge
  procbridge completions fish > ~/.config/fish/completions/procbridge.fish";
