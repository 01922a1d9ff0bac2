import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.Flow;

/** Posts a body of known and one of unknown length, twice each, as the JDK's client does by default: with an offer of h2c. */
class Client {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        var text = "x".repeat(70_000);
        var known = BodyPublishers.ofString(text);
        var unknown = BodyPublishers.fromPublisher(BodyPublishers.ofByteArrays(List.of(text.getBytes(), "y".getBytes())));
        for (var body : List.of(known, unknown, known, unknown)) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0])).POST(body).build();
            var answer = client.send(request, BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
