//! What `options` of an interface of `type=afxdp` mean ([`netdev::af_xdp`]); names and values are OVS's.

use std::collections::BTreeMap;

use netdev::af_xdp::{MAX_QUEUES, Mode, Options};

use crate::log;

/// The options that there are.
const KNOWN: [&str; 3] = ["n_rxq", "use-need-wakeup", "xdp-mode"];

/// Reads an interface's options. Of one that is not known the log tells.
///
/// # Errors
/// The text for the `error` column.
pub fn options(name: &str, options: &BTreeMap<String, String>) -> Result<Options, String> {
    for other in options.keys().filter(|o| !KNOWN.contains(&o.as_str())) {
        let known = KNOWN.join(", ");
        log!(Warn, NetdevLinux, "{name}: type=afxdp has no options:{other}; it has {known}");
    }
    let get = |key: &str| options.get(key).map(String::as_str);
    let mode = match get("xdp-mode") {
        None => None,
        Some(text) if text.eq_ignore_ascii_case("best-effort") => None,
        Some(text) => {
            let mode = Mode::ALL.iter().find(|m| m.name().eq_ignore_ascii_case(text));
            Some(*mode.ok_or_else(|| {
                let names: Vec<&str> = Mode::ALL.iter().map(|m| m.name()).collect();
                format!(
                    "{name}: options:xdp-mode={text} is none of best-effort, {}",
                    names.join(", ")
                )
            })?)
        }
    };
    let queues = match get("n_rxq") {
        None => None,
        Some(text) => match text.parse() {
            Ok(n) if (1..=MAX_QUEUES).contains(&n) => Some(n),
            _ => {
                return Err(format!(
                    "{name}: options:n_rxq={text} is no number from 1 to {MAX_QUEUES}"
                ));
            }
        },
    };
    let need_wakeup = match get("use-need-wakeup") {
        None | Some("true") => true,
        Some("false") => false,
        Some(text) => {
            return Err(format!(
                "{name}: options:use-need-wakeup={text} is neither true nor false"
            ));
        }
    };
    Ok(Options { mode, queues, need_wakeup })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(all: &[(&str, &str)]) -> Result<Options, String> {
        let map = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        options("p0", &map)
    }

    #[test]
    fn options_are_those_of_ovs() {
        let plain = Options { mode: None, queues: None, need_wakeup: true };
        assert_eq!(read(&[]), Ok(plain.clone()));
        assert_eq!(read(&[("xdp-mode", "best-effort"), ("n_txq", "3")]), Ok(plain));
        let all = [("xdp-mode", "Native"), ("n_rxq", "4"), ("use-need-wakeup", "false")];
        let wanted = Options { mode: Some(Mode::Native), queues: Some(4), need_wakeup: false };
        assert_eq!(read(&all), Ok(wanted));
        for (option, wrong) in [
            (
                ("xdp-mode", "fast"),
                "p0: options:xdp-mode=fast is none of best-effort, native-with-zerocopy, native, generic",
            ),
            (("n_rxq", "17"), "p0: options:n_rxq=17 is no number from 1 to 16"),
            (("n_rxq", "0"), "p0: options:n_rxq=0 is no number from 1 to 16"),
            (("n_rxq", "two"), "p0: options:n_rxq=two is no number from 1 to 16"),
            (
                ("use-need-wakeup", "yes"),
                "p0: options:use-need-wakeup=yes is neither true nor false",
            ),
        ] {
            assert_eq!(read(&[option]).unwrap_err(), wrong);
        }
    }
}
