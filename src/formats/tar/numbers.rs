//! How numbers and texts are written in headers.

/// A number in octal digits, or in binary where the first bit says so. Blanks and zeros around it are nothing; nothing at
/// all is 0.
pub fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let end = field.iter().position(|b| *b == 0 && field[0] != 0).unwrap_or(field.len());
    let digits = field[..end].trim_ascii();
    let digits = digits.strip_prefix(b"\0").unwrap_or(digits);
    let mut number: i64 = 0;
    for digit in digits.iter().take_while(|b| !matches!(b, 0 | b' ')) {
        match digit {
            b'0'..=b'7' => number = number.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?,
            _ => return None,
        }
    }
    Some(number)
}

/// Base 256, the highest bit left out, the next one the sign.
fn binary(field: &[u8]) -> Option<i64> {
    let is_negative = field[0] & 0x40 != 0;
    let mut number: i128 = if is_negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = match at {
            0 if is_negative => byte | 0x80,
            0 => byte & 0x7f,
            _ => *byte,
        };
        number = number << 8 | i128::from(byte);
        if !(i128::from(i64::MIN)..=i128::from(i64::MAX)).contains(&number) {
            return None;
        }
    }
    i64::try_from(number).ok()
}

/// The text of a field, up to its first zero.
pub fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A decimal number.
pub fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Seconds with a fraction, `-1.5`, as seconds and the nanoseconds behind them.
pub fn seconds(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0u32, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    match whole.starts_with('-') && nanos > 0 {
        true => Some((secs.checked_sub(1)?, 1_000_000_000 - nanos)),
        false => Some((secs, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"        "), Some(0));
        assert_eq!(number(b"99"), None);
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Some(0x2_0000_0001));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn seconds_may_have_a_fraction_and_a_sign() {
        assert_eq!(seconds(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(seconds(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(seconds(b"7"), Some((7, 0)));
        assert_eq!(seconds(b"1.1234567899"), Some((1, 123_456_789)));
        assert_eq!((seconds(b"x"), seconds(b"1.-5"), seconds(b"")), (None, None, None));
    }
}
