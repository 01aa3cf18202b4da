//! Numbers for people: at most three digits that matter, and a unit.

/// `0`, `3.4`, `999`, `1.23k`, `45.6M`; what is nearly nothing is `<0.1`.
pub fn short(x: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    if x <= 0.0 {
        return "0".to_owned();
    }
    if x < 0.05 {
        return "<0.1".to_owned();
    }
    let (mut x, mut unit) = (x, 0);
    // What would be rounded to 1000 has the next unit.
    while x >= 999.5 && unit + 1 < UNITS.len() {
        x /= 1000.0;
        unit += 1;
    }
    let digits = match (x, unit) {
        (x, 0) if x >= 9.95 || x.fract() == 0.0 => 0,
        (_, 0) => 1,
        (x, _) if x >= 99.95 => 0,
        (x, _) if x >= 9.995 => 1,
        _ => 2,
    };
    format!("{x:.digits$}{}", UNITS[unit])
}

/// `93.1%` of a share from 0 to 1; `0%` and `100%` are exact.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p <= 0.0 => "0%".to_owned(),
        p if p >= 100.0 => "100%".to_owned(),
        p if p < 0.05 => "<0.1%".to_owned(),
        p => format!("{:.1}%", p.min(99.9)),
    }
}

/// `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut s = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            s.push(',');
        }
        s.push(digit);
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_that_matter() {
        for (x, text) in [
            (-1.0, "0"),
            (0.0, "0"),
            (0.01, "<0.1"),
            (0.05, "0.1"),
            (3.0, "3"),
            (3.44, "3.4"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (9996.0, "10.0k"),
            (99_940.0, "99.9k"),
            (99_960.0, "100k"),
            (999_600.0, "1.00M"),
            (12_345_678.0, "12.3M"),
            (9.81e9, "9.81G"),
            (1.5e19, "15000P"),
        ] {
            assert_eq!(short(x), text, "{x}");
        }
    }

    #[test]
    fn shares_are_only_whole_if_they_are() {
        for (share, text) in [
            (0.0, "0%"),
            (0.0001, "<0.1%"),
            (0.931, "93.1%"),
            (0.9999, "99.9%"),
            (1.0, "100%"),
            (1.2, "100%"),
        ] {
            assert_eq!(percent(share), text, "{share}");
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }
}
