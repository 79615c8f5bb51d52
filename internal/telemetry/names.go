package telemetry

// The metrics, all under the prefix ovl_. Names and labels are relied on by
// dashboards: renaming one is a breaking change.
const (
	// Both programs. Gauge, always 1; labels version, commit, go.
	nameBuildInfo = "ovl_build_info"

	// ovl-agent. Counter: passes of the loop; label result (done, incomplete,
	// unobserved).
	namePasses = "ovl_agent_passes_total"
	// ovl-agent. Histogram, seconds: one pass, from observing to the last
	// operation.
	namePassSeconds = "ovl_agent_pass_duration_seconds"
	// ovl-agent. Counter: operations on the kernel; labels table (link, route …),
	// verb (create, update, delete), result (done, again, gone, refused).
	nameOps = "ovl_agent_operations_total"
	// ovl-agent. Gauge: rows that this host should have.
	nameRows = "ovl_agent_rows_wanted"
	// ovl-agent. Gauge: rows that are not done; label condition (failed,
	// blocked, contended).
	nameRowsNotDone = "ovl_agent_rows_not_done"
	// ovl-agent. Gauge: 1 while the store answers, else 0.
	nameStoreConnected = "ovl_agent_store_connected"
	// ovl-agent. Gauge: containers attached on this host.
	nameAttachments = "ovl_agent_attachments"
	// ovl-agent. Gauge: subnets held, by network.
	nameSubnets = "ovl_agent_subnets"
	// ovl-agent. Gauge: problems that the plan or the lease found; label severity.
	nameProblems = "ovl_agent_problems"
	// ovl-agent. Counter: questions of containers about names; label outcome (own,
	// forwarded, refused, busy).
	nameQuestions   = "ovl_agent_dns_questions_total"
	nameDockerCalls = "ovl_agent_docker_calls_total"

	// ovl-controller. Counter: calls answered; labels method
	// (/ovl.v1.NetworkService/CreateNetwork), code (OK, NotFound …).
	nameCalls = "ovl_controller_grpc_requests_total"
	// ovl-controller. Histogram, seconds: calls answered, streams not counted;
	// label method.
	nameCallSeconds = "ovl_controller_grpc_request_duration_seconds"
)
