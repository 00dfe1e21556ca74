//! An upstream that speaks gRPC, which is HTTP/2 with a trailer.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use super::Desk;
use crate::frame::{self, flag, kind, Frame, PREFACE};

pub(super) fn serve(desk: &Desk, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    let mut hello = Frame::new(kind::SETTINGS, 0, 0, WINDOW_OF_STREAMS).bytes();
    hello.extend(Frame::new(kind::WINDOW_UPDATE, 0, 0, WINDOW_OF_CONNECTION).bytes());
    stream.get_mut().write_all(&hello)?;

    let mut block = Vec::new();
    loop {
        let frame = read(stream)?;
        if matches!(frame.kind, kind::HEADERS | kind::CONTINUATION) {
            block.extend(&frame.payload);
            if frame.flags & flag::END_HEADERS != 0 {
                let fields = frame::fields(&block).ok_or(io::ErrorKind::InvalidData)?;
                desk.inspect(&fields);
            }
        }
        if frame.kind == kind::SETTINGS && frame.flags & flag::ACK == 0 {
            let ack = Frame::new(kind::SETTINGS, flag::ACK, 0, []);
            stream.get_mut().write_all(&ack.bytes())?;
        }
        if frame.ends_stream() {
            stream.get_mut().write_all(&answer(desk, frame.stream))?;
            // nginx closes when it has the trailer; an end before that is one too early to it.
            io::copy(stream, &mut io::sink())?;
            return Ok(());
        }
    }
}

fn answer(desk: &Desk, stream: u32) -> Vec<u8> {
    let mut fields = vec![STATUS_200];
    fields.extend(frame::literal(0, b"content-type", b"application/grpc"));
    let content = desk.guard.content().into_bytes();
    let trailer = frame::literal(0, b"grpc-status", b"0");
    let end = flag::END_HEADERS | flag::END_STREAM;
    [
        Frame::new(kind::HEADERS, flag::END_HEADERS, stream, fields).bytes(),
        Frame::new(kind::DATA, 0, stream, content).bytes(),
        Frame::new(kind::HEADERS, end, stream, trailer).bytes(),
    ]
    .concat()
}

/// nginx neither pads nor sets priorities.
fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Frame> {
    let mut bytes = vec![0; 9];
    stream.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
    bytes.resize(9 + length, 0);
    stream.read_exact(&mut bytes[9..])?;
    Frame::take(&mut bytes.as_slice()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `:status: 200` of HPACK's static table.
const STATUS_200: u8 = 0x88;
/// `SETTINGS_INITIAL_WINDOW_SIZE`, as much as can be.
const WINDOW_OF_STREAMS: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];
const WINDOW_OF_CONNECTION: [u8; 4] = [0x7f, 0xff, 0, 0];
