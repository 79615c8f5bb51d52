package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// ServeEcho answers every TCP connection and every UDP datagram to address
// (":7777", "10.0.0.1:7777") with the address that it comes from, until ctx
// ends. It is how a lab shows whether somebody's address was translated on the
// way.
func ServeEcho(ctx context.Context, address string) error {
	l, err := listenEcho(ctx, address)
	if err != nil {
		return err
	}
	u, err := new(net.ListenConfig).ListenPacket(ctx, "udp", address)
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	go echoPackets(u)
	stop := context.AfterFunc(ctx, func() {
		_ = u.Close()
		_ = l.Close()
	})
	defer stop()
	if err := serveEcho(l); ctx.Err() == nil {
		return err
	}
	return nil
}

func listenEcho(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

func serveEcho(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			if p, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
				fmt.Fprintln(conn, p.Addr().Unmap())
			}
			_ = conn.Close()
		}()
	}
}

// echoPackets answers until u is closed.
func echoPackets(u net.PacketConn) {
	for {
		_, from, err := u.ReadFrom(make([]byte, 1))
		if err != nil {
			return
		}
		if p, err := netip.ParseAddrPort(from.String()); err == nil {
			_, _ = u.WriteTo([]byte(p.Addr().Unmap().String()), from)
		}
	}
}

// AskEcho asks the echo at address, HOST:PORT, over network, tcp or udp, which
// address it sees.
func AskEcho(ctx context.Context, network, address string) (netip.Addr, error) {
	if network == "udp" {
		return askPacket(ctx, address)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", address, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 64))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", address, err)
	}
	return parseSeen(address, answer)
}

// askPacket sends one datagram: where an answer may be lost, ask again.
func askPacket(ctx context.Context, address string) (netip.Addr, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", address, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", address, err)
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", address, err)
	}
	return parseSeen(address, answer[:n])
}

func parseSeen(address string, answer []byte) (netip.Addr, error) {
	seen, err := netip.ParseAddr(strings.TrimSpace(string(answer)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s: %w", address, errors.Join(errors.New("it is no echo of a lab"), err))
	}
	return seen, nil
}
