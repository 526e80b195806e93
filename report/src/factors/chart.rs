//! stub
use super::figures::Figure;
pub fn svg(_figure: &Figure) -> anyhow::Result<String> {
    Ok(String::new())
}
