//! TOTP (RFC 6238).

use super::Match;
use crate::store::records::{Totp, TotpHash, UnixTime};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

/// Compares a code with every step of the window in constant time; the oldest equal step counts.
pub(super) fn check(totp: &Totp, code: &[u8], skew: u64, now: UnixTime) -> Option<Match> {
    let period = u64::from(totp.period.max(1));
    let generator = totp_rs::Builder::new()
        .with_algorithm(algorithm(totp.hash))
        .with_digits(totp.digits)
        .with_step_duration(period)
        .with_secret(totp.seed.expose().clone())
        .build()
        .ok()?;
    let current = now.0 / period;
    let window = current.saturating_sub(skew)..=current.saturating_add(skew);
    let codes = window.map(|step| {
        let code = generator.generate(step.saturating_mul(period)).to_string();
        (step, Zeroizing::new(code.into_bytes()))
    });
    let step = equal_step(codes, code)?;
    Some(Match {
        factor: totp.id,
        step,
        window_ends: UnixTime(step.saturating_add(skew + 1).saturating_mul(period)),
    })
}

/// The first step whose code is equal. All are computed and compared, so that the time does not tell which.
fn equal_step(codes: impl Iterator<Item = (u64, Zeroizing<Vec<u8>>)>, code: &[u8]) -> Option<u64> {
    let mut equal_step = 0_u64;
    let mut found = Choice::from(0);
    for (step, expected) in codes {
        let equal = expected.ct_eq(code);
        equal_step.conditional_assign(&step, equal & !found);
        found |= equal;
    }
    bool::from(found).then_some(equal_step)
}

fn algorithm(hash: TotpHash) -> totp_rs::Algorithm {
    match hash {
        TotpHash::Sha1 => totp_rs::Algorithm::SHA1,
        TotpHash::Sha256 => totp_rs::Algorithm::SHA256,
        TotpHash::Sha512 => totp_rs::Algorithm::SHA512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::store::records::{FactorId, FactorState};

    fn token(seed: &[u8], digits: u8, hash: TotpHash) -> Totp {
        Totp {
            id: FactorId([7; 8]),
            label: String::new(),
            seed: Secret::copy(seed),
            digits,
            period: 30,
            hash,
            state: FactorState::Active,
            created: UnixTime(0),
        }
    }

    /// RFC 6238 appendix B; the seeds are as long as the hash, as its erratum 2866 says.
    #[test]
    fn vectors_of_rfc_6238() {
        let sha1 = b"12345678901234567890";
        let sha256 = b"12345678901234567890123456789012";
        let sha512 = b"1234567890123456789012345678901234567890123456789012345678901234";
        for (time, one, two, three) in [
            (59, "94287082", "46119246", "90693936"),
            (1_111_111_109, "07081804", "68084774", "25091201"),
            (1_111_111_111, "14050471", "67062674", "99943326"),
            (1_234_567_890, "89005924", "91819424", "93441116"),
            (2_000_000_000, "69279037", "90698825", "38618901"),
            (20_000_000_000, "65353130", "77737706", "47863826"),
        ] {
            for (seed, hash, code) in [
                (&sha1[..], TotpHash::Sha1, one),
                (&sha256[..], TotpHash::Sha256, two),
                (&sha512[..], TotpHash::Sha512, three),
            ] {
                let found = check(&token(seed, 8, hash), code.as_bytes(), 0, UnixTime(time));
                assert_eq!(found.map(|m| m.step), Some(time / 30), "{time} {hash:?}");
            }
        }
    }

    #[test]
    fn the_window_is_as_wide_as_the_skew_on_both_sides() {
        let token = token(b"12345678901234567890", 8, TotpHash::Sha1);
        // 07081804 is step 37037036 (1111111080..1111111109).
        let at = |time: u64| check(&token, b"07081804", 2, UnixTime(time)).map(|m| (m.step, m.window_ends.0));
        let right = Some((37_037_036, 1_111_111_170));
        assert_eq!(at(1_111_111_019), None);
        assert_eq!(at(1_111_111_020), right);
        assert_eq!(at(1_111_111_080), right);
        assert_eq!(at(1_111_111_169), right);
        assert_eq!(at(1_111_111_170), None);
    }

    #[test]
    fn every_code_of_the_window_is_computed_whichever_is_equal() {
        for equal in 0..6 {
            let mut computed = 0;
            let codes = (0..5_u64).map(|step| {
                computed += 1;
                (step, Zeroizing::new(vec![b'0' + step as u8; 6]))
            });
            let found = equal_step(codes, &[b'0' + equal as u8; 6]);
            assert_eq!(found, (equal < 5).then_some(equal));
            assert_eq!(computed, 5, "step {equal} is equal");
        }
        let same = [3, 4].map(|step| (step, Zeroizing::new(b"123456".to_vec())));
        assert_eq!(equal_step(same.into_iter(), b"123456"), Some(3), "the oldest");
    }

    #[test]
    fn only_whole_codes_of_this_seed_are_right() {
        let six = token(b"12345678901234567890", 6, TotpHash::Sha1);
        let now = UnixTime(59);
        assert!(check(&six, b"287082", 2, now).is_some());
        for wrong in [&b"94287082"[..], b"28708", b"2870822", b"", b"287083", b"+87082"] {
            assert!(check(&six, wrong, 2, now).is_none(), "{wrong:?}");
        }
        let other = token(b"12345678901234567891", 6, TotpHash::Sha1);
        assert!(check(&other, b"287082", 2, now).is_none());
    }
}
