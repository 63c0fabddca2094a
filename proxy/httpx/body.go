package httpx

import (
	"net/http"
	"time"
)

// bodyPatience is how long the body of a request may take, unless its handler
// sets deadlines of its own.
const bodyPatience = time.Minute

// boundBody bounds how long a client may take with a request's body. It has to
// do so also where the handler does not want the body: net/http then reads it,
// before it answers and after, up to 256 KiB, however slowly they come.
func boundBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience)) // a connection without deadlines has no slow client
	if r.ProtoMajor == 1 && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// No handler reads it. With this net/http does not either before it
		// answers; so it does not look out for the client meanwhile, whom the
		// deadline would then seem to have ended.
		w.Header().Set("Connection", "close")
	}
}
