module fleetctl.test/pause

go 1.21
