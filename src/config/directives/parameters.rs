//! Reads the parameters of a directive; see [`accounting::parameters`].

use accounting::parameters::{Known, Parameters};

use crate::nginx::conf::Conf;
use crate::nginx::directive::Directive;

/// Reads the parameters of the directive `D`: first `positional` values, then the parameters in `known`.
///
/// # Errors
/// The message for the first argument that is unknown, or given twice.
pub fn read<'a, D: Directive>(
    cf: &Conf<'a>,
    positional: usize,
    known: &[Known],
) -> Result<Parameters<'a>, String> {
    // the first argument is the directive's name
    Parameters::read(D::name(), cf.arguments().skip(1), positional, known)
}
