//! The address by which the limits of the edge recognize a client.

use std::net::IpAddr;

use hyper::HeaderMap;

/// Returns the address by which the limits recognize a client.
///
/// An IPv6 client usually has a whole network of 64 bits, so its addresses count as one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

/// Returns the client of a request that a trusted proxy forwarded: the last address in `X-Forwarded-For`.
///
/// The client itself may have sent the earlier ones.
pub(super) fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).into_iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok().map(network)
}

const FORWARDED_FOR: &str = "x-forwarded-for";

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn networks_have_64_bits_of_ipv6() {
        let cases =
            [("127.0.0.2", "127.0.0.2"), ("::ffff:127.0.0.2", "127.0.0.2"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")];
        for (address, expected) in cases {
            assert_eq!(network(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn the_last_forwarded_address_is_the_client() {
        let cases: [(&[&str], Option<&str>); 5] = [
            (&[], None),
            (&["10.0.0.1"], Some("10.0.0.1")),
            (&["10.0.0.1, 10.0.0.2"], Some("10.0.0.2")),
            (&["10.0.0.1", "10.0.0.2 , 2001:db8::1"], Some("2001:db8::")),
            (&["10.0.0.1, unknown"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(forwarded_for(&headers), expected.map(|address| address.parse().unwrap()), "{values:?}");
        }
    }
}
