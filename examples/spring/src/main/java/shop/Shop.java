package shop;

import feign.FeignException;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.openfeign.EnableFeignClients;
import org.springframework.http.HttpStatus;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.server.ResponseStatusException;

@SpringBootApplication
@EnableFeignClients
@RestController
public class Shop {
    private final Goods goods;

    Shop(Goods goods) {
        this.goods = goods;
    }

    record Stock(long id, int pieces) {}

    private final AtomicInteger served = new AtomicInteger();

    /** A service for callers in Rust. */
    @GetMapping("/stock/{id}")
    Stock stock(@PathVariable("id") long id) {
        served.incrementAndGet();
        if (id > 5) {
            throw new ResponseStatusException(HttpStatus.NOT_FOUND);
        }
        return new Stock(id, (int) id * 10);
    }

    /** Returns the number of requests that the service has received. */
    @GetMapping("/served")
    int served() {
        return served.get();
    }

    /** Returns a good of the provider in Rust. */
    @GetMapping("/good/{id}")
    Object good(@PathVariable("id") long id) {
        try {
            return goods.find(id);
        } catch (FeignException.NotFound error) {
            return Map.of("error", error.contentUTF8());
        }
    }

    /** Calls the provider in Rust `n` times in two ways, and counts the outcomes. */
    @GetMapping("/drive")
    Map<String, Integer> drive(@RequestParam("n") int n) {
        var outcomes = new TreeMap<String, Integer>();
        for (int i = 0; i < n; i++) {
            String outcome;
            try {
                var good = i % 2 == 0 ? goods.find(1) : goods.post(new Goods.Find(1));
                outcome = good.name();
            } catch (Exception error) {
                outcome = error.toString();
            }
            outcomes.merge(outcome, 1, Integer::sum);
        }
        return outcomes;
    }

    public static void main(String[] args) {
        SpringApplication.run(Shop.class, args);
    }
}
