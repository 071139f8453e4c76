// Sends POSTs with pauses, with Java's HttpClient. It does not tell which connection it uses, so only failures show.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

public final class KeepAlive {
    public static void main(String[] arguments) throws Exception {
        var count = Integer.parseInt(arguments[1]);
        var pause = (long) (Double.parseDouble(arguments[2]) * 1000);
        // Over HTTP/1.1, because an upgrade to HTTP/2 is not what this tests.
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("X-User", "keep-alive-java")
            .timeout(Duration.ofSeconds(10))
            .POST(HttpRequest.BodyPublishers.noBody())
            .build();
        for (var i = 0; i < count; i++) {
            var response = client.send(request, BodyHandlers.ofString());
            if (response.statusCode() != 200) {
                throw new AssertionError("not true: POST " + i + " succeeds\n  actual: " + response.body());
            }
            Thread.sleep(pause);
        }
    }
}
