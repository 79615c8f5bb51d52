package admit_test

import (
	"strings"
	"testing"

	"github.com/ovlnet/ovl/controller/admit"
)

func TestPage(t *testing.T) {
	for _, c := range []struct{ size, want int32 }{{0, admit.DefaultPageSize}, {1, 1}, {1000, 1000}} {
		if items, after, vs := admit.Page("l", c.size, ""); items != int(c.want) || after != "" || len(vs) > 0 {
			t.Errorf("size %d: %d items after %q, %v", c.size, items, after, vs)
		}
	}
	for _, size := range []int32{-1, 1001, 1 << 30} {
		_, _, vs := admit.Page("l", size, "")
		expect(t, vs, "page_size", "1 to 1000")
	}
	token := admit.PageToken("list", "a\x00b")
	if _, after, vs := admit.Page("list", 0, token); after != "a\x00b" || len(vs) > 0 {
		t.Errorf("token came back as %q %v", after, vs)
	}
	_, _, vs := admit.Page("another", 0, token)
	expect(t, vs, "page_token", "other filters")
	for _, bad := range []string{"x", "!!!!", token[1:], token[:len(token)-2], token + "A", strings.Repeat("A", 5000), token[:8] + "\n" + token[8:]} {
		_, _, vs := admit.Page("list", 0, bad)
		expect(t, vs, "page_token", "begin again")
	}
}

func FuzzPage(f *testing.F) {
	f.Add("list", "key", admit.PageToken("list", "key"))
	f.Add("", "", "AQ")
	f.Fuzz(func(t *testing.T, scope, key, token string) {
		_, after, vs := admit.Page(scope, 0, token)
		if len(vs) == 0 && token != "" && admit.PageToken(scope, after) != token {
			t.Errorf("two tokens for one key %q", after)
		}
		if len(key) == 0 || len(key) > 700 {
			return
		}
		if _, after, vs := admit.Page(scope, 0, admit.PageToken(scope, key)); after != key || len(vs) > 0 {
			t.Errorf("token of %q came back as %q: %v", key, after, vs)
		}
	})
}
