//! Frames that are nearly all well-formed, so that what comes after the parser is reached.

use arbitrary::Arbitrary;

/// The edge address, over IPv4 and IPv6; also that of frames for somebody else.
pub(crate) const EDGE: u8 = 1;

/// Ports that rules and packets have in common.
pub(crate) const PORTS: [u16; 4] = [53, 80, 7000, 50_000];

/// What a frame says.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Shape {
    is_ipv6: bool,
    /// Something other than UDP or TCP now and then.
    protocol: u8,
    fragment: u8,
    source: u8,
    destination: u8,
    source_port: u8,
    destination_port: u8,
    hops: u8,
    flags: u8,
    window: u8,
    option_words: u8,
    payload: Payload,
    /// A byte that is changed afterwards, and how.
    damage: Option<(u8, u8)>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Payload {
    None,
    Short([u8; 5]),
    Long([u8; 24]),
}

impl Shape {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let protocol = match self.protocol % 16 {
            15 => 1,
            even if even % 2 == 0 => 6,
            _ => 17,
        };
        let transport = self.transport(protocol);
        let mut frame = vec![2; 12];
        if self.is_ipv6 {
            self.put_ipv6(&mut frame, protocol, &transport);
        } else {
            self.put_ipv4(&mut frame, protocol, &transport);
        }
        if let Some((at, change)) = self.damage
            && let Some(byte) = frame.get_mut(usize::from(at))
        {
            *byte ^= change;
        }
        frame
    }

    fn transport(&self, protocol: u8) -> Vec<u8> {
        let payload: &[u8] = match &self.payload {
            Payload::None => &[],
            Payload::Short(bytes) => bytes,
            Payload::Long(bytes) => bytes,
        };
        let mut bytes = Vec::new();
        let port = |number: u8| PORTS[usize::from(number) % PORTS.len()].to_be_bytes();
        bytes.extend(port(self.source_port));
        bytes.extend(port(self.destination_port));
        if protocol == 6 {
            let words = 5 + self.option_words % 11;
            bytes.extend([0; 8]);
            bytes.extend([words << 4, self.flags, 0, self.window, 0, 0, 0, 0]);
            bytes.extend(vec![1; usize::from(words - 5) * 4]);
        } else {
            bytes.extend(length(8 + payload.len()));
            bytes.extend([0; 2]);
        }
        bytes.extend(payload);
        bytes
    }

    fn put_ipv4(&self, frame: &mut Vec<u8>, protocol: u8, transport: &[u8]) {
        let fragment = [[0, 0], [0, 0], [0x20, 0], [0, 3]][usize::from(self.fragment % 4)];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(length(20 + transport.len()));
        frame.extend([0, 0]);
        frame.extend(fragment);
        frame.extend([self.hops, protocol, 0, 0]);
        frame.extend([198, 51, 100, self.source % 8]);
        frame.extend([192, 0, 2, self.destination % 2 + 1]);
        frame.extend(transport);
    }

    fn put_ipv6(&self, frame: &mut Vec<u8>, protocol: u8, transport: &[u8]) {
        let fragment = [None, None, Some(1), Some(8)][usize::from(self.fragment % 4)];
        let extension = fragment.map_or(0, |_| 8);
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length(extension + transport.len()));
        frame.extend([fragment.map_or(protocol, |_| 44), self.hops]);
        for last in [self.source % 8 + 16, self.destination % 2 + 1] {
            frame.extend([
                0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
            ]);
        }
        if let Some(offset) = fragment {
            frame.extend([protocol, 0, 0, offset, 0, 0, 0, 0]);
        }
        frame.extend(transport);
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap().to_be_bytes()
}
