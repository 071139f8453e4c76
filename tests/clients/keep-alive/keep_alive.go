// Sends POSTs with pauses, with net/http, and checks that all use the first connection.
package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"time"
)

func main() {
	log.SetFlags(0)
	url := os.Args[1]
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	pause, err := time.ParseDuration(os.Args[3] + "s")
	if err != nil {
		log.Fatal(err)
	}

	client := &http.Client{Timeout: 10 * time.Second}
	opened := 0
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			opened++
		}
	}}
	for i := range count {
		request, err := http.NewRequest(http.MethodPost, url, nil)
		if err != nil {
			log.Fatal(err)
		}
		request.Header.Set("X-User", "keep-alive-go")
		response, err := client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
		if err != nil {
			log.Fatalf("not true: POST %d succeeds\n  actual: %v", i, err)
		}
		// A connection can be reused only when the body has been read to its end.
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			log.Fatalf("not true: POST %d succeeds\n  actual: %s %s %v", i, response.Status, body, err)
		}
		time.Sleep(pause)
	}
	if opened != 1 {
		log.Fatalf("not true: net/http sends %d POSTs on 1 connection\n  actual: %d", count, opened)
	}
}
