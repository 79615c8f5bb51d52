//go:build docker

package docker

import (
	"strings"
	"testing"
)

// TestCompose: a service of one host's Compose file is reached by its name from one of
// another's.
func TestCompose(t *testing.T) {
	v := versions(t)[0] // Debian's Compose goes with Debian's engine
	l, one, two := twoEngines(t, v, config{})
	l.Run(t, "control", "ovlctl", "network", "create", "blue")
	for e, service := range map[*engine]string{one: "front", two: "store"} {
		e.network(t, "blue")
		e.compose(t, service, strings.ReplaceAll(`version: "3.5"
services:
  SERVICE:
    image: `+image+`
    stop_signal: SIGKILL
    networks: [blue, back]
networks:
  blue: {external: true}
  back: {driver: ovl, ipam: {driver: ovl}, name: back-SERVICE}
`, "SERVICE", service), "up", "-d")
	}
	one.knows(t, "shop_front_1", "store", two.address(t, "shop_store_1", "blue"))
	two.knows(t, "shop_store_1", "front", one.address(t, "shop_front_1", "blue"))
	two.knows(t, "shop_store_1", "shop_front_1", one.address(t, "shop_front_1", "blue"))
	two.network(t, "back-front") // made by Compose on the other host
	one.mustReach(t, "shop_front_1", "store")
	one.compose(t, "front", "", "down")
	two.lacks(t, "back-front")
	two.knows(t, "shop_store_1", "front", "NXDOMAIN")
	one.cleared(t)
}

// compose runs docker-compose(1) with a project of its own, whose file is written first
// if there is one given.
func (e *engine) compose(t *testing.T, service, file string, args ...string) {
	t.Helper()
	dir := "/run/" + service + "/shop"
	if file != "" {
		e.Run(t, e.host, "sh", "-c", "mkdir -p "+dir+" && printf '%s' '"+file+"' >"+dir+"/docker-compose.yml")
	}
	e.Run(t, e.host, append([]string{"env", "PATH=" + e.path(), "docker-compose", "--project-directory", dir, "-f", dir + "/docker-compose.yml"}, args...)...)
}
