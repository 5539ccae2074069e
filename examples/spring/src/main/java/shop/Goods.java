package shop;

import org.springframework.cloud.openfeign.FeignClient;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;

/** The contract shop.Goods:1.0 of the provider in Rust, which Nacos lists as the service "goods". */
@FeignClient(name = "goods")
public interface Goods {
    record Good(long id, String name, long price) {}

    record Find(long id) {}

    /** The path of the method, which its #[rpc(http = "…")] sets. */
    @GetMapping("/goods/{id}")
    Good find(@PathVariable("id") long id);

    /** The path that every method has. */
    @PostMapping("/shop.Goods/find_goods")
    Good post(@RequestBody Find find);
}
