//! The arguments of all commands that read logs.

/// Arguments of all commands that read logs, for `#[command(flatten)]`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// The same as "--broken error"
    #[arg(long, help_heading = "Input", conflicts_with = "broken")]
    pub strict: bool,

    /// How to treat broken lines. The default is "error" for bills, and "skip" for other reports
    #[arg(long, help_heading = "Input", value_name = "WHAT")]
    pub broken: Option<Broken>,

    /// Show no progress
    #[arg(long, short, help_heading = "Input")]
    pub quiet: bool,
}

/// How to treat broken lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// end with status 1; there is no bill
    Error,
    /// leave them out, and show their number
    Skip,
}

impl Options {
    /// The value of the argument, or `usual`.
    pub fn broken(&self, usual: Broken) -> Broken {
        if self.strict { Broken::Error } else { self.broken.unwrap_or(usual) }
    }
}
